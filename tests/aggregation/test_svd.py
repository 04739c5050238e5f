"""The dense sum and its SVD, against the formula in float64."""

import pytest
import torch

from hsplit_flower.adapters.low_rank import LowRank
from hsplit_flower.aggregation import dense_svd
from hsplit_flower.errors import AdapterError
from tests.reference.aggregation import dense, relative_error

NUM_EXAMPLES = [10, 30, 60]


def _updates() -> list[LowRank]:
    return [LowRank(b=torch.randn(20, r), a=torch.randn(r, 15)) for r in (2, 0, 4)]


def test_the_whole_svd_is_the_weighted_sum() -> None:
    updates = _updates()
    wanted = sum(n / 100 * dense(u) for n, u in zip(NUM_EXAMPLES, updates, strict=True))
    assert relative_error(dense_svd(updates, NUM_EXAMPLES), wanted) <= 1e-5


def test_truncation_is_the_best_of_its_rank() -> None:
    updates = _updates()
    wanted = sum(n / 100 * dense(u) for n, u in zip(NUM_EXAMPLES, updates, strict=True))
    result = dense_svd(updates, NUM_EXAMPLES, rank=3)
    best = torch.linalg.svdvals(wanted)[3:].norm() / torch.linalg.svdvals(wanted).norm()
    assert result.rank == 3
    assert relative_error(result, wanted) == pytest.approx(best.item(), rel=1e-4)


def test_no_updates_have_no_sum() -> None:
    with pytest.raises(AdapterError, match="no updates"):
        dense_svd([], [])
