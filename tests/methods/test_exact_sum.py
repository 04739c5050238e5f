"""Rounds of a method that sums exactly, against float64 with and without a bound, over rounds."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hsplit_flower.adapters import LowRank, UpdateSum
from hsplit_flower.methods import HSPLIT_LORA, ClientResult, MethodState, advance
from hsplit_flower.settings import Aggregation
from hsplit_flower.types import AdapterType, Dividing, Start, Weight
from tests.aggregation.contributions import contributions_of
from tests.reference import aggregation as reference
from tests.reference.aggregation import dense, relative_error

LAW = 1e-6
WEIGHTS = [
    Weight(name="wide", block=0, out_features=40, in_features=30),
    Weight(name="tall", block=1, out_features=40, in_features=30),
]
BOUNDED = Aggregation(mean_rank=3, rank_cap=5)


def step(
    state: MethodState, ranks: list[int], start: Start, options: Aggregation
) -> tuple[MethodState, dict[str, Tensor]]:
    """A round of clients with these ranks, 0 not adapting; and what they change, in float64."""
    results: dict[int, ClientResult] = {}
    changes = {}
    trained: list[dict[str, LowRank]] = [{} for _ in ranks]
    told = [(1 + 2 * place, rank) for place, rank in enumerate(ranks)]
    for weight in WEIGHTS:
        update = state.updates[weight.name]
        _, true = contributions_of(update, told, start)
        zero = torch.zeros(40, 30, dtype=torch.float64)
        changes[weight.name] = reference.aggregate(
            zero, true, holders_only=options.dividing is Dividing.HOLDERS
        )
        for place, contribution in enumerate(true):
            if contribution.trained.rank:
                trained[place][weight.name] = contribution.trained
    for place, updates in enumerate(trained):
        results[place] = ClientResult(num_examples=told[place][0], updates=updates)
    return advance(HSPLIT_LORA, state, results, start=start, options=options), changes


@settings(max_examples=40, deadline=None)
@given(
    rounds=st.lists(
        st.lists(st.sampled_from([0, 1, 2, 4, 9]), min_size=1, max_size=4), min_size=1, max_size=7
    ),
    start=st.sampled_from([Start.CONTINUE, Start.RESTART]),
    mean_rank=st.sampled_from([0, 1, 3, 8]),
    rank_cap=st.sampled_from([0, 5]),
    momentum=st.sampled_from([0.0, 0.5]),
    dividing=st.sampled_from(Dividing),
    dtype=st.sampled_from(AdapterType),
    seed=st.integers(0, 2**32 - 1),
)
def test_sent_and_held_back_are_the_exact_sum_in_every_round(
    rounds: list[list[int]],
    start: Start,
    mean_rank: int,
    rank_cap: int,
    momentum: float,
    dividing: Dividing,
    dtype: AdapterType,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    options = Aggregation(
        mean_rank=mean_rank,
        rank_cap=rank_cap,
        momentum=momentum,
        dividing=dividing,
        adapter_dtype=dtype,
    )
    state = MethodState.fresh(WEIGHTS)
    wanted = {weight.name: torch.zeros(40, 30, dtype=torch.float64) for weight in WEIGHTS}
    velocity = dict(wanted)
    for ranks in rounds:
        state, changes = step(state, ranks, start, options)
        for name, change in changes.items():
            wanted[name], velocity[name] = reference.with_momentum(
                wanted[name], velocity[name], change, beta=momentum
            )
            assert relative_error(state.sum_of(name), wanted[name]) <= LAW
            if mean_rank:
                assert state.sums[name].num_bytes <= 4 * 40 * 30
            else:
                assert relative_error(state.updates[name], wanted[name]) <= LAW
        if mean_rank:
            assert sum(state.ranks.values()) <= 2 * mean_rank
    assert bool(state.sums) == bool(mean_rank)


@pytest.mark.parametrize("start", [Start.CONTINUE, Start.RESTART])
@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_thirty_rounds_stay_exact(start: Start, momentum: float) -> None:
    torch.manual_seed(0)
    options = BOUNDED.replace(momentum=momentum)
    state = MethodState.fresh(WEIGHTS)
    wanted = dict.fromkeys(state.updates, torch.zeros(40, 30, dtype=torch.float64))
    velocity = dict(wanted)
    for _ in range(30):
        state, changes = step(state, [4, 2, 9], start, options)
        for name, change in changes.items():
            wanted[name], velocity[name] = reference.with_momentum(
                wanted[name], velocity[name], change, beta=momentum
            )
            assert relative_error(state.sum_of(name), wanted[name]) <= LAW
    assert isinstance(state.sums["wide"].content, Tensor)
    assert state.held_bytes == (2 + 2 * bool(momentum)) * 4 * 40 * 30


def test_what_is_held_back_is_sent_once_there_is_room() -> None:
    torch.manual_seed(0)
    narrow = Aggregation(mean_rank=2, rank_cap=2, adapter_dtype=AdapterType.FLOAT32)
    state, _ = step(MethodState.fresh(WEIGHTS), [9], Start.RESTART, narrow)
    assert state.held_back_share > 0.1
    learnt = {name: dense(update) for name, update in state.exact_updates().items()}
    for name, matrix in learnt.items():
        cut_off = reference.cut_off_norm(matrix, 2)
        missing = torch.linalg.norm(matrix - dense(state.updates[name])).item()
        assert missing == pytest.approx(cut_off, rel=1e-4)
    idle = {0: ClientResult(num_examples=1, updates={})}
    for wide in (narrow.replace(mean_rank=9, rank_cap=9), Aggregation(mean_rank=0)):
        later = advance(HSPLIT_LORA, state, idle, start=Start.RESTART, options=wide)
        assert later.held_back_share < 1e-6
        for name, matrix in learnt.items():
            assert relative_error(later.updates[name], matrix) <= LAW


def test_a_weight_that_nobody_adapts_goes_on_its_share_of_the_way() -> None:
    torch.manual_seed(0)
    for options in (Aggregation(mean_rank=0, momentum=0.9), BOUNDED.replace(momentum=0.9)):
        state, changes = step(MethodState.fresh(WEIGHTS), [1], Start.RESTART, options)
        for _ in range(3):
            idle = {0: ClientResult(num_examples=1, updates={})}
            state = advance(HSPLIT_LORA, state, idle, start=Start.RESTART, options=options)
        wanted = sum(0.9**i for i in range(4)) * changes["wide"]
        assert relative_error(dense(state.sum_of("wide")), wanted) <= 2 * LAW
        assert state.ranks["wide"] == 1


def test_an_adapter_that_is_taken_over_has_its_bound_too() -> None:
    torch.manual_seed(0)
    given_one = {"wide": LowRank(b=torch.randn(40, 9), a=torch.randn(9, 30))}
    state = MethodState.fresh(WEIGHTS).with_updates(given_one, HSPLIT_LORA, BOUNDED)
    assert state.ranks == {"wide": 5, "tall": 0}
    assert relative_error(dense(state.sum_of("wide")), dense(given_one["wide"])) <= LAW
    assert 0 < state.held_back_share < 1
    other = state.with_updates({}, HSPLIT_LORA, BOUNDED)
    assert (other.held_back_share, sum(other.ranks.values())) == (0.0, 0)
    assert not dense(other.sum_of("wide")).any()


def test_a_round_does_not_change_the_state_before_it() -> None:
    torch.manual_seed(0)
    state, _ = step(MethodState.fresh(WEIGHTS), [9, 9, 9], Start.CONTINUE, BOUNDED)
    assert isinstance(state.sums["wide"].content, Tensor)
    kept = dense(state.sum_of("wide")).clone()
    step(state, [9], Start.CONTINUE, BOUNDED)
    assert torch.equal(dense(state.sum_of("wide")), kept)
    assert replace(state).sums is state.sums
    assert isinstance(state.sum_of("wide"), UpdateSum)


def test_what_is_given_up_does_not_come_back_and_is_said() -> None:
    torch.manual_seed(0)
    options = BOUNDED.replace(drop_below=1.0)
    state, _ = step(MethodState.fresh(WEIGHTS), [9, 9], Start.RESTART, options)
    assert (state.sums, state.held_back_share, state.held_bytes) == ({}, 0.0, 0)
    assert 0 < state.dropped_share < 1
    sent = {name: dense(update) for name, update in state.updates.items()}
    idle = {0: ClientResult(num_examples=1, updates={})}
    later = advance(HSPLIT_LORA, state, idle, start=Start.RESTART, options=options)
    assert later.dropped_share < 1e-6
    for name, matrix in sent.items():
        assert relative_error(later.updates[name], matrix) < 1e-3, "but for float16's rounding"
