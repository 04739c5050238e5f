"""Sums of updates: exact in either form, as small as they can be, and their leading directions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hsplit_flower.adapters import LowRank, UpdateSum
from hsplit_flower.adapters.update_sum import EXACT_RANK
from hsplit_flower.errors import AdapterError, NonFiniteError
from tests.reference.aggregation import dense, relative_error

LAW = 1e-6


def random_update(rank: int, out_features: int, in_features: int, seed: int = 0) -> LowRank:
    draws = torch.Generator().manual_seed(seed)
    return LowRank(
        b=torch.randn(out_features, rank, generator=draws),
        a=torch.randn(rank, in_features, generator=draws),
    )


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    ranks=st.lists(st.integers(0, 9), max_size=8),
    factor=st.sampled_from([-1.5, 0.0, 0.3, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_a_sum_is_exact_and_never_larger_than_the_matrix(
    shape: tuple[int, int], ranks: list[int], factor: float, seed: int
) -> None:
    total, size = UpdateSum(content=LowRank.zeros(*shape)), shape[0] * shape[1]
    wanted = torch.zeros(shape, dtype=torch.float64)
    # Terms may cancel: an error is measured by what was added up, not by what is left of it.
    added = 0.0
    for number, rank in enumerate(ranks):
        term = random_update(rank, *shape, seed=seed + number)
        total = total.scale(factor).plus(term, UpdateSum(content=term))
        wanted = factor * wanted + 2 * dense(term)
        added = abs(factor) * added + 2 * float(dense(term).norm())
        assert float((dense(total) - wanted).norm()) <= LAW * added
        assert total.num_bytes <= 4 * size
    assert total.squared_norm() == pytest.approx(
        float(wanted.square().sum()), rel=1e-5, abs=1e-6 * added**2
    )
    other = random_update(2, *shape)
    inner = float((wanted * dense(other)).sum())
    assert total.inner_product(other) == pytest.approx(inner, rel=1e-4, abs=1e-3)
    assert float((dense(total.canonical()) - wanted).norm()) <= 2 * LAW * added


def test_sums_of_both_forms_are_added() -> None:
    few, many = random_update(1, 8, 6), random_update(9, 8, 6, seed=1)
    factors, matrix = UpdateSum(content=few), UpdateSum(content=few.head(0)).plus(many)
    assert isinstance(factors.content, LowRank)
    assert isinstance(matrix.content, Tensor)
    for one, other in ((factors, matrix), (matrix, factors)):
        assert relative_error(one.plus(other), dense(few) + dense(many)) <= LAW
    assert relative_error(matrix.plus(matrix), 2 * dense(many)) <= LAW


def test_what_is_added_changes_nothing_that_it_was_added_to() -> None:
    before = UpdateSum(content=random_update(9, 8, 6)).plus()
    kept = dense(before).clone()
    before.plus(random_update(2, 8, 6, seed=1)).scale(0.5)
    assert torch.equal(dense(before), kept)


@pytest.mark.parametrize("rank", [0, 1, 5, 8, 40])
@pytest.mark.parametrize("stacked", [3, 6, 30])
def test_leading_directions_are_the_best_ones(rank: int, stacked: int) -> None:
    total = UpdateSum(content=LowRank.zeros(20, 8)).plus(random_update(stacked, 20, 8))
    leading = total.leading(rank)
    assert leading.rank == min(rank, stacked, 8)
    rest = torch.linalg.norm(dense(total) - dense(leading)).item()
    sigma = torch.linalg.svdvals(dense(total))
    assert rest == pytest.approx(torch.linalg.norm(sigma[rank:]).item(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("is_dense", [False, True])
@pytest.mark.parametrize("knows", [False, True])
def test_of_many_directions_the_leading_ones_are_nearly_the_best(
    is_dense: bool, knows: bool
) -> None:
    """A spectrum that hardly falls is the worst case: all directions are nearly as good."""
    rank, side = 16, 2 * EXACT_RANK
    stack = random_update(EXACT_RANK + 20, side + 100, side)
    fading = torch.logspace(0, -1, stack.rank)
    total = UpdateSum(content=LowRank(b=stack.b * fading, a=stack.a))
    if is_dense:
        total = UpdateSum(content=dense(total).float())
    near = total.leading(rank) if knows else None
    leading = total.leading(rank, near=near)
    best = torch.linalg.svdvals(dense(total))[:rank].square().sum().item()
    assert UpdateSum(content=leading).squared_norm() >= 0.998 * best
    sizes = leading.b.norm(dim=0) * leading.a.norm(dim=1)
    assert bool((sizes[:-1] >= sizes[1:]).all())
    assert torch.equal(leading.b, total.leading(rank, near=near).b), "the same every time"


def test_a_stack_of_more_numbers_than_the_matrix_becomes_it() -> None:
    update = random_update(7, 6, 8)
    total = UpdateSum(content=update)
    assert isinstance(total.content, Tensor)
    assert total.num_bytes == 4 * 6 * 8
    assert relative_error(total, dense(update)) <= LAW


def test_the_norm_of_a_stack_whose_terms_cancel_is_that_of_the_rest() -> None:
    big, small = random_update(EXACT_RANK, 1200, 1000), random_update(4, 1200, 1000, seed=1)
    total = UpdateSum(content=big).plus(small.scale(1e-3), -big)
    assert isinstance(total.content, LowRank)
    wanted = float((1e-3 * dense(small)).square().sum())
    assert total.squared_norm() == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("matrix", [torch.ones(3), torch.ones(3, 2).double()])
def test_what_is_no_matrix_of_float32_is_refused(matrix: Tensor, unchecked_shapes: None) -> None:
    with pytest.raises(AdapterError, match=r"a sum is \[3.*float"):
        UpdateSum(content=matrix)


def test_a_matrix_that_is_not_finite_has_no_directions() -> None:
    matrix = torch.ones(3, 2)
    matrix[1, 1] = torch.nan
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        UpdateSum(content=matrix).canonical()
