"""The algebra of low-rank updates, against dense float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.adapters.low_rank import LowRank, compress, concatenate
from hsplit_flower.errors import AdapterError, NonFiniteError
from tests.reference.aggregation import dense, relative_error

LAW = 1e-6
modest = settings(max_examples=60, deadline=None)
ranks = st.integers(0, 40)
sizes = st.integers(1, 30)
seeds = st.integers(0, 2**32 - 1)


def _random(out_features: int, rank: int, in_features: int, seed: int = 0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    return LowRank(
        b=torch.randn(out_features, rank, generator=generator),
        a=torch.randn(rank, in_features, generator=generator),
    )


@modest
@given(sizes, sizes, ranks, ranks, seeds)
def test_add_subtract_scale_are_exact(out: int, inner: int, r: int, q: int, seed: int) -> None:
    x, y = _random(out, r, inner, seed), _random(out, q, inner, seed + 1)
    assert (x + y).rank == r + q
    assert torch.allclose(dense(x + y), dense(x) + dense(y), rtol=0, atol=1e-12)
    assert torch.allclose(dense(x.add(y)), dense(x) + dense(y), rtol=0, atol=1e-12)
    assert torch.allclose(dense(x - y), dense(x) - dense(y), rtol=0, atol=1e-12)
    assert torch.allclose(dense(-x), -dense(x), rtol=0, atol=0)
    size = (x.b.norm() * x.a.norm()).item()  # a small matrix's dot products may cancel below it
    assert torch.allclose(dense(x.scale(0.3)), 0.3 * dense(x), rtol=0, atol=LAW * size)
    assert torch.allclose(x.dense().double(), dense(x), rtol=0, atol=LAW * size)


@modest
@given(sizes, sizes, ranks, seeds)
def test_compress_keeps_the_update_in_canonical_form(
    out: int, inner: int, rank: int, seed: int
) -> None:
    update = _random(out, rank, inner, seed)
    form = compress(update)
    assert form.rank <= min(out, inner, rank)
    assert relative_error(form, dense(update)) <= LAW
    b, a = form.b, form.a
    wanted = torch.linalg.svdvals(dense(update))[: b.shape[1]].float()
    assert torch.allclose(b.T @ b, wanted.diag(), atol=1e-5 * wanted.max().item() if rank else 0)
    assert torch.allclose(a @ a.T, wanted.diag(), atol=1e-5 * wanted.max().item() if rank else 0)


@modest
@given(sizes, sizes, ranks, seeds)
def test_weights_are_put_into_factors(out: int, inner: int, rank: int, seed: int) -> None:
    update = _random(out, rank, inner, seed)
    weights = torch.arange(rank, dtype=torch.float64) % 3
    weighted = update.weighted(weights)
    assert weighted.rank == int((weights != 0).sum())
    assert relative_error(weighted, (update.b.double() * weights) @ update.a.double()) <= LAW


@modest
@given(sizes, sizes, ranks, seeds)
def test_compress_applies_weights_without_rounding(
    out: int, inner: int, rank: int, seed: int
) -> None:
    update = _random(out, rank, inner, seed)
    weights = torch.rand(rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights[::3] = 0.0
    wanted = (update.b.double() * weights) @ update.a.double()
    assert relative_error(compress(update, weights=weights), wanted) <= LAW


def test_compressing_twice_changes_nothing_but_rounding() -> None:
    once = compress(_random(50, 12, 40))
    twice = compress(once)
    assert twice.rank == once.rank
    assert relative_error(twice, dense(once)) <= 1e-7


def test_a_sum_that_cancels_has_rank_zero() -> None:
    x = _random(50, 12, 40)
    assert compress(x - x).rank == 0


def test_the_largest_and_smallest_kept_direction_survive_float32() -> None:
    """A direction just above the tolerance is stored through its root, far above underflow."""
    sigma = torch.tensor([1e-20, 2e-26])
    q, p = torch.linalg.qr(torch.randn(30, 2))[0], torch.linalg.qr(torch.randn(20, 2))[0]
    update = LowRank(b=q * sigma.sqrt(), a=(p * sigma.sqrt()).T)
    result = compress(update)
    assert result.rank == 2
    assert relative_error(result.tail(1), dense(update.tail(1))) <= 1e-3


def test_head_and_tail_part_the_directions_as_views() -> None:
    x = _random(9, 5, 7)
    assert (x.head(2).rank, x.tail(2).rank, x.head(8).rank, x.tail(8).rank) == (2, 3, 5, 0)
    assert torch.allclose(dense(x.head(2) + x.tail(2)), dense(x), rtol=0, atol=1e-12)
    assert x.head(2).b.data_ptr() == x.b.data_ptr()
    assert x.tail(2).a.data_ptr() == x.a[2:].data_ptr()


def test_zeros_add_nothing() -> None:
    x, zero = _random(9, 5, 7), LowRank.zeros(9, 7)
    assert (zero.rank, zero.out_features, zero.in_features) == (0, 9, 7)
    assert torch.equal((x + zero).b, x.b)
    assert torch.equal(zero.dense(), torch.zeros(9, 7))


@pytest.mark.parametrize(
    ("b", "a", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(1, 4), r"b \[3, 2\] and a \[1, 4\]"),
        (torch.zeros(3), torch.zeros(3, 4), "do not multiply"),
        (torch.zeros(3, 2).double(), torch.zeros(2, 4), "torch.float64"),
        (torch.zeros(3, 2), torch.zeros(2, 4).bfloat16(), "torch.bfloat16"),
        (torch.zeros(3, 2, device="meta"), torch.zeros(2, 4), "meta"),
    ],
)
def test_factors_that_do_not_fit_are_refused(
    b: torch.Tensor, a: torch.Tensor, message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        LowRank(b=b, a=a)


def test_updates_of_different_weights_cannot_be_added() -> None:
    with pytest.raises(AdapterError, match=r"\[9, 7\] and \[9, 8\]"):
        _random(9, 1, 7) + _random(9, 1, 8)
    with pytest.raises(AdapterError, match="no updates"):
        concatenate([])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_compress_refuses_what_is_not_finite(value: float) -> None:
    update = _random(9, 2, 7)
    update.a[1, 3] = value
    with pytest.raises(NonFiniteError):
        compress(update)


@pytest.mark.parametrize("settings", [{"tolerance": -1.0}, {"tolerance": 1.0}])
def test_compress_refuses_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(AdapterError, match=next(iter(settings))):
        compress(_random(9, 2, 7), **settings)
