"""The aggregation and its parts as dense float64 matrices, written as the formulas read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hsplit_flower.adapters import LowRank, UpdateSum
from hsplit_flower.aggregation import Contribution


def dense(update: LowRank | UpdateSum) -> Tensor:
    """``B A``, or a sum of such products."""
    factors = update.content if isinstance(update, UpdateSum) else update
    if isinstance(factors, Tensor):
        return factors.double()
    return factors.b.double() @ factors.a.double()


def relative_error(got: LowRank | UpdateSum | Tensor, wanted: Tensor) -> float:
    """Frobenius norm of the difference over that of what is wanted, or over 1 if that is zero."""
    matrix = got.double() if isinstance(got, Tensor) else dense(got)
    norm = torch.linalg.norm(wanted).item()
    return torch.linalg.norm(matrix - wanted).item() / (norm or 1.0)


def aggregate(
    update: Tensor, contributions: Sequence[Contribution], *, holders_only: bool = False
) -> Tensor:
    """``ΔW_g + Σ_i p_i (B_i A_i − B⁰_i A⁰_i)``."""
    total = update.clone()
    counted = [c for c in contributions if c.trained.rank or c.initial.rank or not holders_only]
    num_examples = sum(c.num_examples for c in counted)
    for c in counted:
        total += c.num_examples / num_examples * (dense(c.trained) - dense(c.initial))
    return total


def with_momentum(
    update: Tensor, velocity: Tensor, change: Tensor, *, beta: float
) -> tuple[Tensor, Tensor]:
    """``ΔW_g + V_t`` and ``V_t = β V_{t−1} + change``."""
    velocity = beta * velocity + change
    return update + velocity, velocity


def cut_off_norm(matrix: Tensor, max_rank: int) -> float:
    """How far the nearest matrix of that rank is: what a cap has to cut off, and no more."""
    return torch.linalg.norm(torch.linalg.svdvals(matrix)[max_rank:]).item()
