"""Where every weight of a half starts: the same on either side of a cut."""

import pytest
import torch

from hsplit_flower.adapters import LowRank, compress, starting_points
from hsplit_flower.adapters.round_start import weight_generator
from hsplit_flower.errors import AdapterError
from hsplit_flower.types import Scaling, Span, Start, Weight
from tests.reference.aggregation import dense, relative_error

SETTINGS = {"start": Start.CONTINUE, "scaling": Scaling(alpha=4.0), "seed": 3}
WEIGHTS = [
    Weight(name=f"blocks.{index}.{name}", block=index, in_features=18, out_features=24)
    for index in range(3)
    for name in ("up", "down")
]


def _updates(rank: int = 5) -> dict[str, LowRank]:
    return {
        w.name: compress(LowRank(b=torch.randn(24, rank), a=torch.randn(rank, 18))) for w in WEIGHTS
    }


def test_a_weight_starts_the_same_on_either_side_of_a_cut() -> None:
    updates, ranks = _updates(), {w.name: 7 for w in WEIGHTS}
    whole = starting_points(WEIGHTS, updates, ranks, **SETTINGS)
    for cut in range(4):
        sides = {}
        for span in (Span(start=0, stop=cut), Span(start=cut, stop=3)):
            half = [w for w in WEIGHTS if w.block in span]
            sides |= starting_points(half, updates, ranks, **SETTINGS)
        assert sides.keys() == whole.keys()
        for name, point in sides.items():
            assert torch.equal(point.trainable_a, whole[name].trainable_a)
            assert torch.equal(point.trainable_b, whole[name].trainable_b)


def test_the_order_of_weights_does_not_matter() -> None:
    updates, ranks = _updates(), {w.name: 7 for w in WEIGHTS}
    forward = starting_points(WEIGHTS, updates, ranks, **SETTINGS)
    backward = starting_points(WEIGHTS[::-1], updates, ranks, **SETTINGS)
    for name, point in forward.items():
        assert torch.equal(point.trainable_a, backward[name].trainable_a)


def test_fresh_directions_differ_by_weight_and_by_seed() -> None:
    """A model of 80 blocks with 7 weights each, over rounds, and seeds that only differ high up."""
    drawn = {
        tuple(torch.rand(4, generator=weight_generator(seed, f"model.layers.{block}.w{index}")))
        for seed in (0, 1, 2, 2**20, 2**32, 2**62)
        for block in range(80)
        for index in range(7)
    }
    assert len(drawn) == 6 * 80 * 7


def test_the_generator_is_the_same_in_every_process() -> None:
    """Written down once: a client draws what the worker draws, whatever machine it is."""
    drawn = torch.rand(3, generator=weight_generator(7, "model.layers.0.self_attn.q_proj"))
    assert drawn.tolist() == pytest.approx([0.1678491235, 0.4471088052, 0.3835322261])


@pytest.mark.parametrize("start", Start)
def test_ranks_that_are_missing_or_zero_train_nothing(start: Start) -> None:
    updates = _updates()
    ranks = {WEIGHTS[0].name: 0, WEIGHTS[1].name: 3}
    points = starting_points(WEIGHTS, updates, ranks, **(SETTINGS | {"start": start}))
    assert {n: p.trainable_b.shape[1] for n, p in points.items() if p.trainable_b.shape[1]} == {
        WEIGHTS[1].name: 3
    }
    for name, point in points.items():
        scale = SETTINGS["scaling"].of(point.trainable_b.shape[1])
        trained = scale * point.trainable_b.double() @ point.trainable_a.double()
        assert relative_error(dense(point.frozen) + trained, dense(updates[name])) <= 1e-6


def test_a_weight_without_an_update_starts_from_nothing() -> None:
    name = WEIGHTS[2].name
    point = starting_points(WEIGHTS, {}, {name: 2}, **SETTINGS)[name]
    assert (point.initial.rank, point.frozen.rank, point.merge) == (0, 0, None)
    assert point.trainable_b.shape == (24, 2)
    assert not point.trainable_b.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_update_stays_factored_where_the_weight_would_round_it(dtype: torch.dtype) -> None:
    updates = _updates(rank=16)
    for kind, is_merged in ((torch.float32, True), (torch.float64, True), (dtype, False)):
        points = starting_points(WEIGHTS, updates, {}, **SETTINGS, dtype=kind)
        assert {point.into_weight for point in points.values()} == {is_merged}


def test_an_update_of_another_shape_is_refused_by_name() -> None:
    updates = _updates() | {WEIGHTS[3].name: LowRank.zeros(24, 17)}
    with pytest.raises(AdapterError, match=rf"{WEIGHTS[3].name}.*\[24, 17\].*has \[24, 18\]"):
        starting_points(WEIGHTS, updates, {}, **SETTINGS)
