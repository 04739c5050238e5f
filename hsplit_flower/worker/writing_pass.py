"""The next tokens of many sessions' texts from one pass over the base.

As in training (`batched_pass`), sessions join at their cuts. Their rows lie side by side with their
last tokens in one column; what short ones lack on their left is masked, and only attention costs
more for it. All sessions have the one global adapter, so that no products are stacked.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..adapters import AdapterBank
from ..errors import NonFiniteError
from ..splitting import Half
from ..splitting.kept_keys import side_by_side
from ..wire.next_tokens import Extend, NextTokens
from .writing_session import Kept, WritingSession, begun_by

logger = logging.getLogger(__name__)

ROWS_AT_A_TIME = 64
"""Whose logits are there together: a text brings as many rows as its session keeps tokens."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WritingPart:
    """One session's request in a pass; it has been checked."""

    session: WritingSession
    request: Extend


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    """A part and what its session will keep, if the pass succeeds."""

    part: WritingPart
    kept: Kept

    @property
    def cut(self) -> int:
        return self.part.session.spec.cut


@dataclass(frozen=True, kw_only=True, eq=False)
class _Choices:
    """What may follow some rows of a part: ``[rows, choices]``, and over all tokens ``[rows]``."""

    logits: Tensor
    tokens: Tensor | None
    log_sum: Tensor
    is_finite: bool


def demand_group(request: Extend, num_seen: int, steady_length: int | None) -> str | None:
    """With which requests this one may share a pass; None is with none.

    Alone run prompts, which fill a pass themselves, and texts beyond the length up to which rotary
    frequencies are the same for all.
    """
    num_new = request.hidden.shape[1]
    if num_new > 1 or (steady_length is not None and num_seen + num_new > steady_length):
        return None
    return "next tokens"


def write_together(
    half: Half, bank: AdapterBank, parts: Sequence[WritingPart]
) -> Sequence[NextTokens | Exception]:
    """One pass for all; should it fail for all, one for each, as nothing is kept of it."""
    if not parts:
        return []
    try:
        return run_writing_pass(half, bank, parts)
    except Exception as error:
        if len(parts) == 1:
            return [error]
        logger.warning("%s texts could not go on together", len(parts), exc_info=True)
    return [outcome for part in parts for outcome in write_together(half, bank, [part])]


@torch.no_grad()
def run_writing_pass(
    half: Half, bank: AdapterBank, parts: Sequence[WritingPart]
) -> list[NextTokens | Exception]:
    """The reply to each request, all of which bring equally many tokens a row.

    A session whose logits are not finite gets an error in the place of its reply; of the others,
    and of those only, the new tokens are kept.
    """
    order = sorted(range(len(parts)), key=lambda index: parts[index].session.spec.cut)
    rows = [_row(half, parts[index]) for index in order]
    half.model.eval()
    with bank.activate(parts[0].session.active):
        choices = _choices(half, _last_hidden(half, rows), rows)
    outcomes = [_outcome(row, own) for row, own in zip(rows, choices, strict=True)]
    return [one for _, one in sorted(zip(order, outcomes, strict=True), key=itemgetter(0))]


def _row(half: Half, part: WritingPart) -> _Row:
    request, kept = part.request, part.session.kept
    if request.begins or kept is None:
        return _Row(part=part, kept=begun_by(request, half))
    return _Row(part=part, kept=kept.followed_by(request))


def _last_hidden(half: Half, rows: Sequence[_Row]) -> Tensor:
    """The hidden state of each row's last token after the last block."""
    cuts = sorted({row.cut for row in rows})
    hidden: Tensor | None = None
    for cut, following in zip(cuts, [*cuts[1:], half.architecture.num_blocks], strict=True):
        joining = [row.part.request.hidden for row in rows if row.cut == cut]
        came = torch.cat(joining).to(half.device, half.dtype)
        hidden = came if hidden is None else torch.cat([hidden, came])
        hidden = _carried_on(
            half, hidden, [row.kept for row in rows if row.cut <= cut], cut, following
        )
    assert hidden is not None
    return hidden[:, -1:]


def _carried_on(half: Half, hidden: Tensor, kept: Sequence[Kept], start: int, stop: int) -> Tensor:
    """The hidden state before block ``stop``; the blocks in between keep the new tokens."""
    longest = max(one.num_positions for one in kept)
    mask = torch.cat([pad(one.mask, (longest - one.num_positions, 0)) for one in kept])
    cache = side_by_side([one.cache for one in kept], [one.num_rows for one in kept])
    positions: Tensor | None = None
    if "position_ids" in half.architecture.inputs:
        positions = _positions(mask)[:, -hidden.shape[1] :]
    present = None if bool(mask.all()) else mask
    return half.hidden(hidden, present, positions, start=start, stop=stop, cache=cache)


def _positions(mask: Tensor) -> Tensor:
    """Of each token among its row's, as transformers counts them while it generates."""
    return (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)


def _choices(half: Half, last: Tensor, rows: Sequence[_Row]) -> list[list[_Choices]]:
    """Of each part, in as many pieces as its rows are in."""
    found: list[list[_Choices]] = [[] for _ in rows]
    ends = list(accumulate(row.kept.num_rows for row in rows))
    for start in range(0, ends[-1], ROWS_AT_A_TIME):
        stop = min(start + ROWS_AT_A_TIME, ends[-1])
        logits = half.logits(last[start:stop], None, start=half.architecture.num_blocks)
        logits = logits[:, -1].float()
        for own, row, end in zip(found, rows, ends, strict=True):
            begin = end - row.kept.num_rows
            piece = logits[max(begin, start) - start : max(min(end, stop) - start, 0)]
            if len(piece):
                own.append(_likeliest(piece, row.part.request.num_choices))
    return found


def _likeliest(logits: Tensor, num_choices: int) -> _Choices:
    log_sum, is_finite = logits.logsumexp(dim=-1), bool(logits.isfinite().all())
    if num_choices == logits.shape[1]:
        return _Choices(logits=logits, tokens=None, log_sum=log_sum, is_finite=is_finite)
    chosen, tokens = logits.topk(num_choices)
    return _Choices(logits=chosen, tokens=tokens, log_sum=log_sum, is_finite=is_finite)


def _outcome(row: _Row, choices: Sequence[_Choices]) -> NextTokens | Exception:
    """The reply to a part, whose tokens are then kept."""
    session, request = row.part.session, row.part.request
    if not all(each.is_finite for each in choices):
        return NonFiniteError("the logits of the next tokens are not finite numbers")
    session.count(row.kept, request.hidden.shape[0] * request.hidden.shape[1])
    tokens = [each.tokens for each in choices if each.tokens is not None]
    reply = NextTokens(
        step=request.step,
        logits=torch.cat([each.logits for each in choices]),
        tokens=torch.cat(tokens) if tokens else None,
        log_sum=torch.cat([each.log_sum for each in choices]),
    )
    session.remember(request, reply)
    return reply
