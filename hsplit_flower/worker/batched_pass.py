"""One pass forth, and in training back, over the rows of many sessions: the base is run once.

Sessions are put in the order of their cuts. The pass begins at the lowest, with the rows of those
that are cut there; at every higher cut the next ones' rows join, below the ones that are there. A
row sees nothing of another: not in attention, not in the low-rank products, and each session's loss
is the mean over its own tokens. The gradient of their sum is, for each, its own.

Rows are padded on the right to the longest, and norm and head are run for the tokens that have a
target, so that padding costs blocks but no head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..adapters import Active, AdapterBank, BatchedAdapters, BatchMember
from ..metrics import next_labels
from ..settings import SessionSpec
from ..splitting import Half
from ..types import IGNORED_LABEL
from ..wire.messages import Forward, Request
from .session import Session

Group = tuple[bool, int, float, float]
"""Whether its requests train, the length that all of them have, or 0 for any, and how labels are
smoothed and adapters' inputs dropped."""


def group_of(request: Request, spec: SessionSpec, steady_length: int | None = None) -> Group | None:
    """With which requests this one may share a pass: those of the same group; None is with none.

    Alone runs what is scored, since scores are of one session; and what belongs to a client that
    keeps its labels, whose graph would have to wait for the slowest of those that share it; and
    what steps an adapter that other sessions step too, each in its turn; and rows whose positions
    are given, which without a mask are documents to be kept apart.

    Rows whose padding is not all on the right run with those of the same length. What such padding
    attends to is nothing, of which some attention kernels make the mean of the whole row: another
    one, if the row is longer. So do rows of more than ``steady_length`` tokens, where the longest
    row of a pass decides about the rotary frequencies of all.
    """
    if not isinstance(request, Forward) or request.labels is None or request.probe:
        return None
    if spec.shares_adapters or request.position_ids is not None:
        return None
    mask = request.attention_mask
    is_regular = mask is None or bool((mask[:, 1:] <= mask[:, :-1]).all())
    length = request.hidden.shape[1]
    is_steady = steady_length is None or length <= steady_length
    length = 0 if is_regular and is_steady else length
    return request.train, length, spec.label_smoothing, spec.lora_dropout


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One session's request in a pass. It has labels, and trains or not as the others do."""

    session: Session
    request: Forward

    @property
    def cut(self) -> int:
        return self.session.spec.cut

    @property
    def active(self) -> Active:
        return self.session.active_in(self.request)

    @property
    def num_rows(self) -> int:
        return self.request.hidden.shape[0]

    @property
    def num_positions(self) -> int:
        return self.request.hidden.shape[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class PassResult:
    """What a pass gives one session: of its mean loss, the gradient of its hidden state."""

    loss_sum: float
    num_tokens: int
    gradient: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Targets:
    """Which tokens of the batch predict a label: their places in it, in the order of its rows."""

    places: Tensor
    labels: Tensor
    num_tokens: list[int]


def run_pass(half: Half, bank: AdapterBank, parts: Sequence[Part]) -> list[PassResult]:
    """Run several sessions' requests together; nothing of the sessions changes but gradients.

    The gradients of their factors are added to what is there; those of several sessions to all or,
    if this fails, to none. Losses and gradients may be anything but finite, for one session and not
    for another: that is for the caller to look at.
    """
    order = sorted(range(len(parts)), key=lambda i: (parts[i].cut, parts[i].num_rows))
    results = _run_in_order(half, bank, [parts[i] for i in order])
    return [result for _, result in sorted(zip(order, results, strict=True), key=itemgetter(0))]


def _run_in_order(half: Half, bank: AdapterBank, parts: Sequence[Part]) -> list[PassResult]:
    train = parts[0].request.train
    num_positions = max(part.num_positions for part in parts)
    members = [
        BatchMember(active=p.active, num_rows=p.num_rows, num_positions=p.num_positions)
        for p in parts
    ]
    active = BatchedAdapters(members, num_positions) if len(parts) > 1 else members[0].active
    targets = _targets(parts, num_positions)
    half.model.train(train)
    with torch.set_grad_enabled(train), bank.activate(active):
        leaves = _leaves(half, parts, num_positions)
        smoothing = parts[0].session.spec.label_smoothing if train else 0.0
        sums = _loss_sums(half, _carry_on(half, parts, leaves, num_positions), targets, smoothing)
        if train and any(targets.num_tokens):
            _mean_losses(sums, parts, targets).sum().backward()
    gradients = _gradients(parts, leaves) if train else [None] * len(parts)
    results = [
        PassResult(loss_sum=loss_sum, num_tokens=num_tokens, gradient=gradient)
        for loss_sum, num_tokens, gradient in zip(
            sums.tolist(), targets.num_tokens, gradients, strict=True
        )
    ]
    # Last: a pass that fails is run again, and what it had added until then would count twice.
    if isinstance(active, BatchedAdapters):
        active.hand_out_gradients()
    return results


def _leaves(half: Half, parts: Sequence[Part], num_positions: int) -> dict[int, Tensor]:
    """The hidden states that enter at each cut, side by side, as leaves of the graph."""
    leaves = {}
    for cut in dict.fromkeys(part.cut for part in parts):
        states = [p.request.hidden.detach().to(half.dtype) for p in parts if p.cut == cut]
        hidden = _side_by_side(states, num_positions, 0.0)
        # A leaf of its own even where nothing was converted: its gradient must not be the caller's.
        leaves[cut] = hidden.to(half.device).detach()
        leaves[cut].requires_grad_(parts[0].request.train)
    return leaves


def _carry_on(
    half: Half, parts: Sequence[Part], leaves: dict[int, Tensor], num_positions: int
) -> Tensor:
    """The last hidden state of every row, those of higher cuts having joined on the way."""
    positions = parts[0].request.position_ids
    if positions is None:
        mask = _mask(parts, num_positions)
    else:
        # It runs alone, and no mask would not mean a full one.
        mask, positions = parts[0].request.attention_mask, positions.to(half.device)
    cuts = list(leaves)
    hidden: Tensor | None = None
    for cut, following in zip(cuts, [*cuts[1:], half.architecture.num_blocks], strict=True):
        hidden = leaves[cut] if hidden is None else torch.cat([hidden, leaves[cut]])
        present = None if mask is None else mask[: len(hidden)].to(half.device)
        hidden = half.hidden(hidden, present, positions, start=cut, stop=following)
    assert hidden is not None
    return hidden


def _loss_sums(half: Half, last: Tensor, targets: _Targets, smoothing: float) -> Tensor:
    """The summed cross entropy of each session's targets, in float32."""
    if not any(targets.num_tokens):
        return torch.zeros(len(targets.num_tokens))
    chosen = last.flatten(0, 1).index_select(0, targets.places.to(last.device))
    # As many rows of one token: norm and head look at one at a time.
    logits = half.logits(chosen[:, None], None, start=half.architecture.num_blocks)[:, 0]
    losses = cross_entropy(
        logits.float(),
        targets.labels.to(last.device),
        reduction="none",
        label_smoothing=smoothing,
    )
    return torch.stack([each.sum() for each in losses.split(targets.num_tokens)])


def _mean_losses(sums: Tensor, parts: Sequence[Part], targets: _Targets) -> Tensor:
    totals = [
        part.request.total_tokens or num_tokens
        for part, num_tokens in zip(parts, targets.num_tokens, strict=True)
    ]
    return sums / torch.tensor(totals, dtype=sums.dtype, device=sums.device)


def _gradients(parts: Sequence[Part], leaves: dict[int, Tensor]) -> list[Tensor | None]:
    """Each session's part of the leaves' gradients; a copy, so that none keeps the others'."""
    taken = dict.fromkeys(leaves, 0)
    gradients: list[Tensor | None] = []
    for part in parts:
        gradient = leaves[part.cut].grad
        if gradient is None:
            gradients.append(torch.zeros_like(part.request.hidden, dtype=leaves[part.cut].dtype))
            continue
        first = taken[part.cut]
        own = gradient[first : first + part.num_rows, : part.num_positions]
        taken[part.cut] += part.num_rows
        gradients.append(own if own.shape == gradient.shape else own.clone())
    return gradients


def _targets(parts: Sequence[Part], num_positions: int) -> _Targets:
    labels = _side_by_side([_labels(part) for part in parts], num_positions, IGNORED_LABEL)
    following = next_labels(labels)
    is_target = following != IGNORED_LABEL
    counts = is_target.sum(dim=1).split([part.num_rows for part in parts])
    return _Targets(
        places=is_target.flatten().nonzero()[:, 0],
        labels=following[is_target],
        num_tokens=[int(count.sum()) for count in counts],
    )


def _labels(part: Part) -> Tensor:
    assert part.request.labels is not None
    return part.request.labels


def _mask(parts: Sequence[Part], num_positions: int) -> Tensor | None:
    """Ones for tokens, zeros for padding; None where there is no padding."""
    masks = [
        torch.ones(part.num_rows, part.num_positions, dtype=torch.long)
        if part.request.attention_mask is None
        else part.request.attention_mask
        for part in parts
    ]
    mask = _side_by_side(masks, num_positions, 0)
    return None if bool(mask.all()) else mask


def _side_by_side(tensors: Sequence[Tensor], num_positions: int, padding: float) -> Tensor:
    """Rows of all tensors, padded on the right; the tensor itself where there is nothing to do."""
    if len(tensors) == 1 and tensors[0].shape[1] == num_positions:
        return tensors[0]
    first = tensors[0]
    num_rows = sum(len(tensor) for tensor in tensors)
    joined = first.new_full((num_rows, num_positions, *first.shape[2:]), padding)
    start = 0
    for tensor in tensors:
        joined[start : start + len(tensor), : tensor.shape[1]] = tensor
        start += len(tensor)
    return joined
