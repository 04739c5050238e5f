"""The three ways to the sum that the aggregation benchmark compares are three ways to one sum."""

import pytest
import torch

from benchmarks.aggregation import (
    LLAMA_2_7B,
    NUM_BLOCKS,
    RANKS,
    Shape,
    dense_sum,
    exact_sum,
    make_contributions,
    plain_svd,
    relative_error,
    timed_in_turns,
)
from hsplit_flower.adapters import LowRank
from hsplit_flower.aggregation.noise_free import aggregate

SHAPE = Shape(out_features=40, in_features=56, per_block=1)


def test_all_ways_reach_the_float64_sum() -> None:
    contributions = make_contributions(SHAPE, 5, (1, 4), torch.Generator().manual_seed(0))
    wanted = sum(
        (c.num_examples / 350 * (c.trained.b.double() @ c.trained.a.double()))
        for c in contributions
    )
    assert sum(c.num_examples for c in contributions) == 350
    torch.testing.assert_close(exact_sum(contributions), wanted)
    ours = aggregate(LowRank.zeros(40, 56), contributions)
    for got in (ours.dense(), dense_sum(contributions), plain_svd(contributions).dense()):
        assert relative_error(got.double(), wanted) < 1e-6


def test_ranks_are_spread_over_the_range() -> None:
    made = make_contributions(SHAPE, 20, RANKS, torch.Generator().manual_seed(0))
    ranks = [contribution.trained.rank for contribution in made]
    assert (ranks[0], ranks[-1], len(ranks)) == (*RANKS, 20)
    assert ranks == sorted(ranks)


def test_the_model_has_224_weights() -> None:
    assert sum(shape.per_block for shape in LLAMA_2_7B) * NUM_BLOCKS == 224


def test_ways_take_turns_as_often_as_they_are_counted() -> None:
    calls: list[str] = []
    ways = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    taken = timed_in_turns(ways, {"a": 3, "b": 1})
    assert "".join(calls) == "abaa"
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 3, "b": 1}


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_error_is_relative(scale: float) -> None:
    assert relative_error(scale * torch.ones(3), torch.ones(3)) == pytest.approx(scale - 1)
