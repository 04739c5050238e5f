"""The methods we compare with, each against its formula in float64."""

import pytest
import torch

from hsplit_flower.adapters.low_rank import LowRank
from hsplit_flower.aggregation import average_factors, pad_and_average, stack
from hsplit_flower.errors import AdapterError
from tests.reference.aggregation import dense, relative_error

LAW = 1e-6
NUM_EXAMPLES = [10, 30, 60]


def _random(rank: int) -> LowRank:
    return LowRank(b=torch.randn(20, rank), a=torch.randn(rank, 15))


def test_average_factors_averages_each_factor() -> None:
    updates = [_random(3) for _ in NUM_EXAMPLES]
    b = sum(n / 100 * u.b.double() for n, u in zip(NUM_EXAMPLES, updates, strict=True))
    a = sum(n / 100 * u.a.double() for n, u in zip(NUM_EXAMPLES, updates, strict=True))
    assert relative_error(average_factors(updates, NUM_EXAMPLES), b @ a) <= LAW


def test_padding_fills_the_missing_directions_with_zeros() -> None:
    updates = [_random(rank) for rank in (1, 0, 4)]
    b, a = torch.zeros(20, 4).double(), torch.zeros(4, 15).double()
    for n, update in zip(NUM_EXAMPLES, updates, strict=True):
        b[:, : update.rank] += n / 100 * update.b
        a[: update.rank] += n / 100 * update.a
    averaged = pad_and_average(updates, NUM_EXAMPLES)
    assert averaged.rank == 4
    assert relative_error(averaged, b @ a) <= LAW


def test_stacking_is_exact() -> None:
    updates = [_random(rank) for rank in (1, 0, 4)]
    wanted = sum(n / 100 * dense(u) for n, u in zip(NUM_EXAMPLES, updates, strict=True))
    stacked = stack(updates, NUM_EXAMPLES)
    assert stacked.rank == 5
    assert relative_error(stacked, wanted) <= LAW


def test_one_client_is_its_own_average() -> None:
    update = _random(3)
    for average in (average_factors, pad_and_average, stack):
        assert relative_error(average([update], [7]), dense(update)) <= LAW


def test_factors_of_different_ranks_are_not_averaged_plainly() -> None:
    with pytest.raises(AdapterError, match=r"ranks \[2, 3\]"):
        average_factors([_random(2), _random(3)], [1, 1])


def test_no_updates_have_no_average() -> None:
    for average in (average_factors, pad_and_average, stack):
        with pytest.raises(AdapterError, match="no updates"):
            average([], [])
