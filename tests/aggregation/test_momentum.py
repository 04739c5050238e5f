"""Momentum against its formula; over rounds it is in ``tests/methods/test_exact_sum.py``."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.adapters import LowRank, UpdateSum
from hsplit_flower.aggregation import next_velocity
from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import Aggregation
from tests.reference.aggregation import dense, relative_error

OUT, IN = 9, 7


@settings(max_examples=40, deadline=None)
@given(
    beta=st.sampled_from([0.0, 0.3, 0.9, 0.99]),
    ranks=st.lists(st.integers(0, 9), max_size=4),
    seed=st.integers(0, 999),
)
def test_a_round_goes_a_share_of_the_way_of_the_round_before(
    beta: float, ranks: list[int], seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    before, *change = [
        LowRank(b=torch.randn(OUT, rank, generator=draws), a=torch.randn(rank, IN, generator=draws))
        for rank in (3, *ranks)
    ]
    velocity = UpdateSum(content=before)
    wanted = sum((dense(term) for term in change), beta * dense(before))
    after = next_velocity(velocity, change, beta=beta)
    assert relative_error(after.canonical(), wanted) < 2e-6
    assert velocity.content is before


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_a_share_of_the_whole_way_or_more_is_refused(beta: float) -> None:
    with pytest.raises(ConfigError, match="momentum must be a number from 0 to below 1"):
        Aggregation(momentum=beta)
