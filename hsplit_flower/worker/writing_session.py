"""A session in which texts are written: what it keeps of them, and what that takes."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from ..adapters import Active
from ..errors import UnsupportedModelError
from ..settings import SessionSpec
from ..splitting import Half
from ..wire.next_tokens import Extend
from .session import Session

WORKING_COPIES = 2
"""In a pass: what was kept before it, until all blocks have run, and what is kept after it."""
NUMBER_BYTES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """Keys and values of rows of tokens in the blocks above a cut, and their mask.

    ``mask`` is ``[rows, tokens]``: ones, and zeros where short rows are filled up on their left.
    """

    cache: Cache
    mask: Tensor

    @property
    def num_rows(self) -> int:
        return int(self.mask.shape[0])

    @property
    def num_positions(self) -> int:
        """Tokens of a row, padding included."""
        return int(self.mask.shape[1])

    def followed_by(self, request: Extend) -> "Kept":
        """The same, into which new tokens may be run: what is here stays as it is."""
        layers: list[Any] = [copy.copy(layer) for layer in self.cache.layers]
        mask = self.mask
        if request.parents is not None:
            parents = request.parents.to(mask.device)
            for layer in layers:
                layer.reorder_cache(parents)
            mask = mask[parents]
        new = torch.ones_like(mask[:, :1]).expand(-1, request.hidden.shape[1])
        return Kept(cache=Cache(layers=layers), mask=torch.cat([mask, new], dim=1))


def begun_by(request: Extend, half: Half) -> Kept:
    """Nothing yet of a new text but its mask."""
    mask = request.attention_mask
    if mask is None:
        mask = torch.ones(request.hidden.shape[:2], dtype=torch.long)
    return Kept(cache=half.new_cache(), mask=mask.to(half.device))


@dataclass(kw_only=True)
class WritingSession(Session):
    """A session that trains nothing: it has the global adapter, and what it keeps of its text.

    ``token_bytes`` are those of one token's keys and values above the session's cut. A reply, which
    is remembered in case it is lost, has ``reply_bytes`` at most unless it is for one row: as many
    as the hidden states that may be asked with.
    """

    token_bytes: int
    reply_bytes: int
    kept: Kept | None = None

    @property
    def held_bytes(self) -> int:
        """What it may take: the tokens that it was granted, their copies in a pass, and a reply."""
        return WORKING_COPIES * self.spec.kept_tokens * self.token_bytes + self.reply_bytes

    def forget_step(self) -> None:
        """A request that failed has changed nothing: it may be sent again."""

    def count(self, kept: Kept, num_new: int) -> None:
        """Count a request in that was run."""
        self.kept = kept
        self.num_steps += 1
        self.num_tokens += num_new


@torch.no_grad()
def token_bytes_by_block(half: Half) -> dict[int, int]:
    """What a token's keys and values take in each block that a half holds: one token is run.

    Raises
    ------
    UnsupportedModelError
        If its blocks keep something else.
    """
    cache, architecture = half.new_cache(), half.architecture
    hidden = torch.zeros(1, 1, architecture.hidden_size, dtype=half.dtype, device=half.device)
    half.model.eval()
    half.hidden(hidden, None, start=half.parts.span.start, cache=cache)
    layers: list[Any] = cache.layers
    held = range(half.parts.span.start, half.parts.span.stop)
    if any(layers[block].get_seq_length() != 1 for block in held):
        raise UnsupportedModelError(
            f"a model of type {architecture.model_type!r} cannot write texts in two halves: not "
            "every block of it keeps keys and values"
        )
    return {block: layers[block].keys.nbytes + layers[block].values.nbytes for block in held}


class WritingSessions:
    """Opens sessions that write on a half, and knows what a token takes of it once one was.

    Parameters
    ----------
    half
        The worker's.
    """

    def __init__(self, half: Half) -> None:
        self._half = half
        self._token_bytes: dict[int, int] | None = None

    def open(self, spec: SessionSpec, active: Active) -> WritingSession:
        """A session that keeps nothing yet.

        Parameters
        ----------
        spec
            What it is granted.
        active
            The global adapter.

        Raises
        ------
        UnsupportedModelError
            If the half's blocks keep something else than keys and values.
        """
        if self._token_bytes is None:
            self._token_bytes = token_bytes_by_block(self._half)
        above = (own for block, own in self._token_bytes.items() if block >= spec.cut)
        return WritingSession(
            spec=spec,
            active=active,
            trainables={},
            optimizer=None,
            token_bytes=sum(above),
            reply_bytes=NUMBER_BYTES * self._half.architecture.hidden_size * spec.kept_tokens,
        )
