"""Low-rank updates ``ΔW = B A`` and their exact algebra.

A `LowRank` is a value: the scaling ``α/r`` of LoRA is always folded in, so that updates of
different ranks can be added. Sums are concatenations, hence exact; `compress` brings a sum back to
the rank that it really has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import AdapterError, NonFiniteError
from .canonical import canonical_factors, gram

TOLERANCE = 1e-6
"""Relative error that a compression may add: the law of the aggregation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRank:
    """An update ``ΔW = b @ a`` of one weight, scaling folded in, in float32.

    ``b`` is ``[out_features, rank]``, ``a`` is ``[rank, in_features]``; rank 0 is no change.
    """

    b: Tensor
    a: Tensor

    def __post_init__(self) -> None:
        b_shape, a_shape = list(self.b.shape), list(self.a.shape)
        if self.b.ndim != 2 or self.a.ndim != 2 or b_shape[1] != a_shape[0]:
            raise AdapterError(
                f"factors b {b_shape} and a {a_shape} do not multiply to an update; "
                "give b as [out_features, rank] and a as [rank, in_features]"
            )
        if self.b.dtype != torch.float32 or self.a.dtype != torch.float32:
            raise AdapterError(
                f"factors are {self.b.dtype} and {self.a.dtype}, wanted torch.float32 for both; "
                "convert them with .float(), whatever the model's dtype"
            )
        if self.b.device != self.a.device:
            raise AdapterError(
                f"factor b is on {self.b.device} and a on {self.a.device}; move them to one device"
            )

    @classmethod
    def zeros(cls, out_features: int, in_features: int) -> "LowRank":
        """The update of rank 0."""
        return cls(b=torch.zeros(out_features, 0), a=torch.zeros(0, in_features))

    @property
    def rank(self) -> int:
        return self.b.shape[1]

    @property
    def out_features(self) -> int:
        return self.b.shape[0]

    @property
    def in_features(self) -> int:
        return self.a.shape[1]

    def dense(self) -> Float[Tensor, "out_features in_features"]:
        """The whole matrix ``ΔW``."""
        return self.b @ self.a

    def head(self, rank: int) -> "LowRank":
        """The first ``rank`` directions, or all if there are fewer; a view."""
        return LowRank(b=self.b[:, :rank], a=self.a[:rank])

    def tail(self, rank: int) -> "LowRank":
        """What `head` of the same ``rank`` leaves; a view."""
        return LowRank(b=self.b[:, rank:], a=self.a[rank:])

    def scale(self, factor: float) -> "LowRank":
        """``factor · ΔW``."""
        return LowRank(b=self.b * factor, a=self.a)

    def weighted(self, weights: Float[Tensor, " rank"]) -> "LowRank":
        """``Σ_j w_j b_j a_j``, without those whose weight is zero; multiplied in float64."""
        kept = weights != 0
        b = self.b[:, kept].double() * weights[kept].to(self.b.device, torch.float64)
        return LowRank(b=b.float(), a=self.a[kept])

    def add(self, other: "LowRank") -> "LowRank":
        """The exact sum, whose rank is the sum of both ranks."""
        return concatenate([self, other])

    def inner_product(self, other: "LowRank") -> float:
        """``⟨B A, B' A'⟩ = Σ (Bᵀ B') ∘ (A A'ᵀ)`` in float64, without forming either product."""
        left = self.b.double().T @ other.b.double()
        return float((left * (self.a.double() @ other.a.double().T)).sum())

    def squared_norm(self) -> float:
        """``‖B A‖²`` in float64, as terms of a stack may cancel; the matrix is not formed."""
        return max(0.0, float((gram(self.b.double().T) * gram(self.a.double())).sum()))

    def to(self, device: torch.device | str) -> "LowRank":
        """The same update on another device."""
        return LowRank(b=self.b.to(device), a=self.a.to(device))

    def __add__(self, other: "LowRank") -> "LowRank":
        return self.add(other)

    def __sub__(self, other: "LowRank") -> "LowRank":
        return self.add(-other)

    def __neg__(self) -> "LowRank":
        return self.scale(-1.0)


def saturated(factor: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest numbers that a type has; what lies beyond it becomes its largest number."""
    largest = torch.finfo(dtype).max
    return factor.clamp(-largest, largest).to(dtype)


def concatenate(terms: Sequence[LowRank]) -> LowRank:
    """The exact sum of ``terms``: ``[B_1, B_2, …] · [A_1; A_2; …]``."""
    if not terms:
        raise AdapterError(
            "got no updates to add; give at least one, for instance LowRank.zeros(…)"
        )
    first = terms[0]
    for term in terms:
        if (term.out_features, term.in_features) != (first.out_features, first.in_features):
            raise AdapterError(
                f"cannot add updates of shapes [{first.out_features}, {first.in_features}] and "
                f"[{term.out_features}, {term.in_features}]; give updates of one weight"
            )
    return LowRank(b=torch.cat([t.b for t in terms], dim=1), a=torch.cat([t.a for t in terms]))


def compress(
    update: LowRank,
    *,
    weights: Float[Tensor, " rank"] | None = None,
    tolerance: float = TOLERANCE,
) -> LowRank:
    """``Σ_j w_j b_j a_j`` in canonical form, at the rank that it really has.

    That is ``b = U √S``, ``a = √S Vᵀ``, with the singular values in descending order.

    Parameters
    ----------
    weights
        ``w_j``, one for each direction, multiplied in float64; all 1 if None.
    tolerance
        A singular value below ``tolerance`` times the largest is dropped, as long as all that is
        dropped stays below half of ``tolerance`` relative to the whole.

    Raises
    ------
    NonFiniteError
        The factors hold NaN or infinity.
    """
    if not 0 <= tolerance < 1:
        raise AdapterError(f"tolerance must be at least 0 and below 1, got {tolerance}")
    if weights is not None and not weights.all():
        update = LowRank(b=update.b[:, weights != 0], a=update.a[weights != 0])
        weights = weights[weights != 0]
    b, a = update.b.double(), update.a.double()
    if weights is not None:
        b *= weights.to(b)
    if not math.isfinite((b.sum() + a.sum()).item()):
        raise NonFiniteError("an update holds NaN or infinity; leave out the client it came from")
    b, a, _ = canonical_factors(b, a, tolerance)
    return LowRank(b=b.float(), a=a.float())
