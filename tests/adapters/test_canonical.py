"""Canonical factors against torch's own float64 SVD, where squaring the spectrum could hurt too."""

import pytest
import torch
from torch import Tensor

from hsplit_flower.adapters.canonical import canonical_factors

TOLERANCE = 1e-6


def _orthonormal(rows: int, columns: int) -> Tensor:
    return torch.linalg.qr(torch.randn(rows, columns, dtype=torch.float64))[0]


def _decaying(rank: int, decades: float) -> tuple[Tensor, Tensor]:
    sigma = torch.logspace(0, -decades, rank, dtype=torch.float64)
    return _orthonormal(90, rank) * sigma, _orthonormal(70, rank).T


def _cancelling(what_is_left: float) -> tuple[Tensor, Tensor]:
    b, a = torch.randn(90, 8).double(), torch.randn(8, 70).double()
    rest = what_is_left * torch.randn(8, 70).double()
    return torch.cat([b, -b], 1), torch.cat([a, a + rest])


def _opposed(what_is_left: float) -> tuple[Tensor, Tensor]:
    """What is strong in one factor is weak in the other, under a rotation that hides it."""
    strong, weak = torch.ones(4).double(), torch.full((4,), what_is_left).double()
    rotation = _orthonormal(8, 8)
    b = _orthonormal(90, 8) * torch.cat([strong, weak]) @ rotation.T
    return b, rotation @ (_orthonormal(70, 8) * torch.cat([weak, strong])).T


def _scattered() -> tuple[Tensor, Tensor]:
    scales = torch.logspace(-12, 12, 40, dtype=torch.float64)
    return torch.randn(90, 40).double() * scales, torch.randn(40, 70).double() / scales[:, None]


def _repeated(times: int) -> tuple[Tensor, Tensor]:
    b, a = torch.randn(90, 8).double(), torch.randn(8, 70).double()
    return b.repeat(1, times), a.repeat(times, 1)


CASES = {
    "well conditioned": lambda: (torch.randn(90, 30).double(), torch.randn(30, 70).double()),
    "wide, dense form": lambda: (torch.randn(40, 60).double(), torch.randn(60, 70).double()),
    "tall, dense form": lambda: (torch.randn(90, 60).double(), torch.randn(60, 50).double()),
    "nine decades": lambda: _decaying(50, 9),
    "nine decades, dense form": lambda: _decaying(70, 9),
    "cancels to 1e-4": lambda: _cancelling(1e-4),
    "cancels to 1e-6": lambda: _cancelling(1e-6),
    "opposed at 1e-6": lambda: _opposed(1e-6),
    "scattered scales": _scattered,
    "repeated": lambda: _repeated(3),
    "repeated, dense form": lambda: _repeated(10),
    "rank one": lambda: (torch.randn(90, 1).double(), torch.randn(1, 70).double()),
    "one row": lambda: (torch.randn(1, 5).double(), torch.randn(5, 70).double()),
}


@pytest.mark.parametrize("case", CASES)
def test_keeps_the_product_and_is_canonical(case: str) -> None:
    b, a = CASES[case]()
    left, right, sigma = canonical_factors(b, a, TOLERANCE)
    product = b @ a
    wanted = torch.linalg.svdvals(product)
    assert torch.linalg.norm(left @ right - product) <= 0.6 * TOLERANCE * torch.linalg.norm(product)
    assert len(sigma) >= (wanted > TOLERANCE * wanted[0]).sum()
    assert torch.allclose(sigma, wanted[: len(sigma)], rtol=0, atol=1e-7 * wanted[0].item())
    assert (sigma.diff() <= 0).all()
    identity = torch.eye(len(sigma), dtype=torch.float64)
    for factor in (left, right.T):
        u = factor / sigma.sqrt()
        assert torch.allclose(u.T @ u, identity, atol=1e-3)


@pytest.mark.parametrize("case", ["repeated", "repeated, dense form", "cancels to 1e-4"])
def test_finds_the_rank_that_a_sum_really_has(case: str) -> None:
    _, _, sigma = canonical_factors(*CASES[case](), TOLERANCE)
    assert len(sigma) == 8


def test_many_small_directions_are_not_lost_together() -> None:
    """Each of 60 is under the tolerance, their sum of squares is not."""
    sigma = torch.cat([torch.ones(1), torch.full((60,), 0.9 * TOLERANCE)]).double()
    b, a = _orthonormal(90, 61) * sigma, _orthonormal(70, 61).T
    left, right, _ = canonical_factors(b, a, TOLERANCE)
    assert torch.linalg.norm(left @ right - b @ a) <= 0.6 * TOLERANCE


@pytest.mark.parametrize("rank", [50, 70])
def test_a_tolerance_below_what_squares_resolve_is_met(rank: int) -> None:
    b, a = _decaying(rank, 9)
    left, right, sigma = canonical_factors(b, a, 0.0)
    assert torch.linalg.norm(left @ right - b @ a) <= 1e-13
    assert torch.allclose(sigma, torch.logspace(0, -9, rank, dtype=torch.float64), rtol=1e-4)
    identity = torch.eye(rank, dtype=torch.float64)
    for factor in (left, right.T):
        u = factor / sigma.sqrt()
        assert torch.allclose(u.T @ u, identity, atol=1e-4)


@pytest.mark.parametrize("rank", [0, 5, 100])
def test_zero_has_rank_zero(rank: int) -> None:
    zeros = torch.zeros(90, rank, dtype=torch.float64), torch.zeros(rank, 70, dtype=torch.float64)
    left, right, sigma = canonical_factors(*zeros, TOLERANCE)
    assert (left.shape, right.shape, sigma.shape) == ((90, 0), (0, 70), (0,))
