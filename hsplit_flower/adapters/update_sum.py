"""All that was learnt of one weight, exactly, in whichever form is smaller.

A global adapter of bounded size is only the head of it. Kept is the sum itself rather than what the
head leaves of it: so it changes by what clients add alone, and a head that was taken from it never
has to be put back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import AdapterError, NonFiniteError
from .canonical import canonical_factors
from .low_rank import TOLERANCE, LowRank, compress, concatenate

EXACT_RANK = 256
"""Up to this rank all directions are found, at no more than what finding some of them takes."""

_NUM_SWEEPS = 4
_BLOCK_NUMBERS = 2**24


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class UpdateSum:
    """A sum of updates: their stack, uncompressed, or the matrix once that holds fewer numbers.

    ``content`` is in float32 either way, so it never takes more bytes than the weight does in
    float32. A stack of more numbers becomes the matrix as soon as it is given.
    """

    content: LowRank | Float[Tensor, "out_features in_features"]

    def __post_init__(self) -> None:
        content = self.content
        if not isinstance(content, LowRank):
            if content.ndim != 2 or content.dtype != torch.float32:
                raise AdapterError(
                    f"a sum is {list(content.shape)} in {content.dtype}; [out_features, "
                    "in_features] in torch.float32 is wanted"
                )
        else:
            size = content.out_features * content.in_features
            if content.rank and content.b.numel() + content.a.numel() >= size:
                object.__setattr__(self, "content", _added([], content))

    @property
    def out_features(self) -> int:
        content = self.content
        return content.out_features if isinstance(content, LowRank) else content.shape[0]

    @property
    def in_features(self) -> int:
        content = self.content
        return content.in_features if isinstance(content, LowRank) else content.shape[1]

    @property
    def rank(self) -> int:
        """What its rank is at most."""
        least = min(self.out_features, self.in_features)
        return min(self.content.rank, least) if isinstance(self.content, LowRank) else least

    @property
    def num_bytes(self) -> int:
        """What it takes in memory and in a file."""
        content = self.content
        tensors = (content.b, content.a) if isinstance(content, LowRank) else (content,)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def dense(self) -> Float[Tensor, "out_features in_features"]:
        """The whole matrix ``ΔW``."""
        return self.content.dense() if isinstance(self.content, LowRank) else self.content

    def squared_norm(self) -> float:
        """``‖ΔW‖²`` in float64, without forming the matrix of a stack."""
        content = self.content
        if isinstance(content, LowRank):
            return content.squared_norm()
        return float(torch.linalg.vector_norm(content, dtype=torch.float64)) ** 2

    def inner_product(self, update: LowRank) -> float:
        """``⟨ΔW, B A⟩``, without forming a matrix that is not there."""
        content = self.content
        if isinstance(content, LowRank):
            return content.inner_product(update)
        return float(((content @ update.a.T).double() * update.b).sum())

    def explained_by(self, update: LowRank) -> float:
        """``‖ΔW‖² − ‖ΔW − B A‖²``: how much of the squared norm an update accounts for."""
        return 2 * self.inner_product(update) - update.squared_norm()

    def plus(self, *terms: "UpdateSum | LowRank") -> "UpdateSum":
        """The exact sum with these; a product that a matrix takes in is rounded once, after it."""
        contents = [term.content if isinstance(term, UpdateSum) else term for term in terms]
        factors = [each for each in (self.content, *contents) if isinstance(each, LowRank)]
        matrices = [each for each in (self.content, *contents) if not isinstance(each, LowRank)]
        none = LowRank.zeros(self.out_features, self.in_features)
        stack = concatenate([none, *factors])
        return UpdateSum(content=_added(matrices, stack) if matrices else stack)

    def scale(self, factor: float) -> "UpdateSum":
        """``factor · ΔW``."""
        content = self.content
        scaled = content.scale(factor) if isinstance(content, LowRank) else content * factor
        return UpdateSum(content=scaled)

    def canonical(self) -> LowRank:
        """All of it in canonical form, to a relative error below `TOLERANCE`."""
        if isinstance(self.content, LowRank):
            return compress(self.content)
        if not bool(self.content.isfinite().all()):
            raise NonFiniteError("a sum of updates holds NaN or infinity")
        # As factors, of which the second is one that changes nothing.
        out_features, in_features = self.content.shape
        if out_features < in_features:
            factors = torch.eye(out_features, dtype=torch.float64), self.content.double()
        else:
            factors = self.content.double(), torch.eye(in_features, dtype=torch.float64)
        b, a, _ = canonical_factors(*factors, TOLERANCE)
        return LowRank(b=b.float(), a=a.float())

    def leading(self, rank: int, *, near: LowRank | None = None) -> LowRank:
        """Its ``rank`` leading directions, in canonical form.

        Where it has more than `EXACT_RANK` they are found by subspace iteration with a
        Rayleigh-Ritz step (Halko, Martinsson, Tropp 2011, arXiv 0909.4061, algorithm 4.4), in
        ``out · in · rank`` operations; they are then the best ones nearly.

        Parameters
        ----------
        rank
            How many; fewer where there are fewer.
        near
            Directions to begin at, such as those of the round before: most of the work is done
            where they still lead.
        """
        if self.rank <= max(EXACT_RANK, rank):
            return self.canonical().head(rank)
        width = min(2 * rank, self.out_features, self.in_features)
        start = _start(width, self.in_features, near)
        for _ in range(_NUM_SWEEPS):
            start = torch.linalg.qr(self._transposed_times(self._basis(start))).Q
        basis = self._basis(start)
        core = self._transposed_times(basis).T
        b, a, _ = canonical_factors(basis.double(), core.double(), 0.0)
        return LowRank(b=b[:, :rank].float(), a=a[:rank].float())

    def _basis(self, columns: Tensor) -> Tensor:
        content = self.content
        if isinstance(content, LowRank):
            image = content.b @ (content.a @ columns)
        else:
            image = content @ columns
        basis: Tensor = torch.linalg.qr(image).Q
        return basis

    def _transposed_times(self, columns: Tensor) -> Tensor:
        content = self.content
        if isinstance(content, LowRank):
            return content.a.T @ (content.b.T @ columns)
        return content.T @ columns


def _start(width: int, in_features: int, near: LowRank | None) -> Tensor:
    """Columns to begin at; those that nobody knows are random, the same ones every time."""
    known = near.a[:width].T if near is not None else torch.empty(in_features, 0)
    generator = torch.Generator().manual_seed(in_features)
    random = torch.randn(in_features, width - known.shape[1], generator=generator)
    return torch.cat([known, random], dim=1)


def _added(matrices: Sequence[Tensor], stack: LowRank) -> Tensor:
    """``Σ matrices + b a``, taken in float64 in blocks of rows and rounded once."""
    a = stack.a.double()
    total = torch.empty(stack.out_features, stack.in_features)
    rows = max(1, _BLOCK_NUMBERS // stack.in_features)
    for at in range(0, len(total), rows):
        block = slice(at, at + rows)
        part = stack.b[block].double() @ a
        for matrix in matrices:
            part += matrix[block]
        total[block] = part.float()
    return total
