"""Every starting point leaves the model's function as it is, and says what it started from."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hsplit_flower.adapters.low_rank import LowRank, compress
from hsplit_flower.adapters.start import StartingPoint, fold, initial_update, starting_point
from hsplit_flower.errors import AdapterError
from hsplit_flower.types import Start
from tests.reference.aggregation import dense, relative_error

LAW = 1e-6
OUT, IN = 24, 18
seeded = st.integers(0, 2**32 - 1).map(torch.manual_seed)
scales = st.sampled_from([0.5, 1.0, 2.0, 3.0, 8.0, 16.0])


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def _update(rank: int) -> LowRank:
    return compress(LowRank(b=torch.randn(OUT, rank), a=torch.randn(rank, IN)))


def _effective_weight(w: Tensor, point: StartingPoint, scale: float) -> Tensor:
    merge = dense(point.merge) if point.merge is not None else 0.0
    trainable = point.trainable_b.double() @ point.trainable_a.double()
    return w + merge + dense(point.frozen) + scale * trainable


@settings(max_examples=60, deadline=None)
@given(
    seeded,
    st.integers(0, 18),
    st.integers(0, 24),
    st.sampled_from(Start),
    scales,
    st.integers(0, 20),
)
def test_the_function_is_unchanged(
    _: torch.Generator, update_rank: int, rank: int, start: Start, scale: float, factored_below: int
) -> None:
    update = _update(update_rank)
    w = torch.randn(OUT, IN).double()
    for below in (None, factored_below):
        point = starting_point(
            update,
            rank=rank,
            start=start,
            scale=scale,
            generator=_generator(),
            factored_below=below,
        )
        assert relative_error(_effective_weight(w, point, scale), w + dense(update)) <= LAW
        # Without W beside it, which would hide an error in a small update.
        alone = _effective_weight(torch.zeros(OUT, IN).double(), point, scale)
        assert relative_error(alone, dense(update)) <= LAW
        assert point.trainable_b.shape == (OUT, rank)
        assert point.trainable_a.shape == (rank, IN)
        folded = fold(point.trainable_b, point.trainable_a, scale)
        assert relative_error(folded, dense(initial_update(update, rank, start))) <= LAW
        assert relative_error(folded, dense(point.initial)) <= LAW


def test_restart_trains_fresh_factors_on_the_frozen_update() -> None:
    update = _update(3)
    point = starting_point(update, rank=4, start=Start.RESTART, scale=2.0, generator=_generator())
    assert not point.trainable_b.any()
    assert point.trainable_a.abs().max() <= 1 / math.sqrt(IN)
    assert point.trainable_a.std() == pytest.approx(1 / math.sqrt(3 * IN), rel=0.2)
    assert (point.initial.rank, point.frozen.rank, point.merge) == (0, 3, None)


def test_continue_trains_the_leading_directions() -> None:
    update = _update(6)
    point = starting_point(update, rank=4, start=Start.CONTINUE, scale=4.0, generator=_generator())
    assert torch.equal(point.trainable_b, update.b[:, :4] / 2)
    assert torch.equal(point.trainable_a, update.a[:4] / 2)
    assert (point.initial.rank, point.frozen.rank) == (4, 2)


@settings(max_examples=40, deadline=None)
@given(seeded, st.integers(0, 6), st.sampled_from([0.5, 1.0, 2.0, 8.0, 3.0, 6.4, 32 / 7]))
def test_a_pair_of_factors_goes_on_as_it_is(_: torch.Generator, rank: int, scale: float) -> None:
    """Round after round, untouched: to the bit where the scale has one, else to a rounding."""
    pair = LowRank(b=torch.randn(OUT, rank), a=torch.randn(rank, IN))
    again = pair
    for _round in range(3):
        point = starting_point(
            again, rank=rank, start=Start.FACTORS, scale=scale, generator=_generator()
        )
        assert torch.equal(point.trainable_b, (again.b.double() / scale).float())
        assert torch.equal(point.trainable_a, pair.a)
        assert (point.initial.rank, point.frozen.rank, point.merge) == (rank, 0, None)
        again = fold(point.trainable_b, point.trainable_a, scale)
    assert torch.equal(again.a, pair.a)
    if math.frexp(scale)[0] == 0.5:
        assert torch.equal(again.b, pair.b)
    assert torch.allclose(again.b, pair.b, rtol=5e-7, atol=0.0)


@pytest.mark.parametrize("start", [Start.CONTINUE, Start.FACTORS])
def test_directions_that_the_update_lacks_start_as_in_lora(start: Start) -> None:
    update = _update(2)
    point = starting_point(update, rank=5, start=start, scale=1.0, generator=_generator())
    assert not point.trainable_b[:, 2:].any()
    assert point.trainable_a[2:].any(dim=1).all()
    assert (point.initial.rank, point.frozen.rank) == (2, 0)


def test_training_does_not_write_into_the_update() -> None:
    update = _update(6)
    before = dense(update)
    point = starting_point(update, rank=4, start=Start.CONTINUE, scale=1.0, generator=_generator())
    point.trainable_b.zero_()
    point.trainable_a.zero_()
    assert torch.equal(dense(update), before)


@pytest.mark.parametrize("start", Start)
def test_an_update_dearer_than_the_weight_goes_into_it(start: Start) -> None:
    """24 x 18 = 432 numbers; rank 10 holds 420, rank 11 holds 462."""
    settings = {"rank": 3, "start": start, "scale": 2.0, "generator": _generator()}
    cheap, dear = _update(10), _update(11)
    assert not starting_point(cheap, **settings).into_weight
    point = starting_point(dear, **settings)
    assert point.into_weight
    assert point.merge is dear
    assert point.frozen.rank == (0 if start is Start.RESTART else 3)


def test_whether_it_is_merged_does_not_depend_on_the_clients_rank() -> None:
    """Sessions of different ranks share one W."""
    for rank in (0, 1, 9, 11, 24):
        settings = {"rank": rank, "start": Start.CONTINUE, "scale": 2.0, "generator": _generator()}
        assert starting_point(_update(11), **settings).into_weight
        assert not starting_point(_update(10), **settings).into_weight


def test_the_same_seed_gives_the_same_start() -> None:
    first, second, third = (
        starting_point(
            _update(0),
            rank=4,
            start=Start.RESTART,
            scale=1.0,
            generator=torch.Generator().manual_seed(seed),
        ).trainable_a
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_fold_cuts_the_graph() -> None:
    b, a = torch.randn(OUT, 2, requires_grad=True), torch.randn(2, IN, requires_grad=True)
    folded = fold(b, a, 3.0)
    assert not folded.b.requires_grad
    assert not folded.a.requires_grad
    assert relative_error(folded, 3.0 * (b.double() @ a.double()).detach()) <= LAW


@pytest.mark.parametrize(("name", "value"), [("scale", 0.0), ("scale", math.nan), ("rank", -1)])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    settings = {"rank": 2, "start": Start.CONTINUE, "scale": 1.0, "generator": _generator()}
    with pytest.raises(AdapterError, match=name):
        starting_point(_update(3), **(settings | {name: value}))
