"""How far two ways to the same number may be apart: one table, by what it is computed in."""

import torch
from torch import Tensor

RELATIVE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 1e-2,
    torch.bfloat16: 4e-2,
}
"""Frobenius norm of the difference over the norm of what is wanted."""


def distance(got: Tensor, wanted: Tensor) -> float:
    """Norm of the difference over the norm of what is wanted, or over 1 if that is zero."""
    assert got.shape == wanted.shape, f"got {list(got.shape)}, wanted {list(wanted.shape)}"
    norm = torch.linalg.vector_norm(wanted.double()).item()
    return torch.linalg.vector_norm(got.double() - wanted.double()).item() / (norm or 1.0)


def assert_same(
    got: Tensor, wanted: Tensor, what: str = "", dtype: torch.dtype = torch.float32
) -> None:
    """Fail unless both are equal as far as computing in ``dtype`` allows."""
    apart = distance(got, wanted)
    assert apart <= RELATIVE[dtype], f"{what} is off by {apart:.1e} (relative)"
