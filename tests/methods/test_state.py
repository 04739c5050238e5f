"""What a method knows between rounds: against naive float64, over random rounds."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hsplit_flower.adapters import LowRank, compress
from hsplit_flower.aggregation import Contribution, Dividing
from hsplit_flower.errors import AdapterError, NonFiniteError
from hsplit_flower.methods import HSPLIT_LORA, SPLIT_LORA, ClientResult, MethodState, advance
from hsplit_flower.settings import Aggregation
from hsplit_flower.types import Start, Weight
from tests.reference.aggregation import aggregate, dense, relative_error
from tests.rounds import architecture

WEIGHTS = architecture("llama").weights
NAME = "model.layers.1.mlp.gate_proj"
OPTIONS = Aggregation(mean_rank=0)
# The products of float32 factors, which are rounded once.
LAW = 1e-6


def random_update(rank: int, name: str = NAME) -> LowRank:
    (weight,) = (weight for weight in WEIGHTS if weight.name == name)
    return LowRank(
        b=torch.randn(weight.out_features, rank), a=torch.randn(rank, weight.in_features)
    )


def result(updates: dict[str, LowRank], num_examples: int = 1) -> ClientResult:
    return ClientResult(num_examples=num_examples, updates=updates)


def summed(
    state: MethodState,
    *results: ClientResult,
    start: Start = Start.RESTART,
    options: Aggregation = OPTIONS,
) -> MethodState:
    return advance(HSPLIT_LORA, state, dict(enumerate(results)), start=start, options=options)


@st.composite
def small_weights(draw: st.DrawFn) -> list[Weight]:
    sizes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3))
    return [
        Weight(name=f"layer.{number}", block=number, out_features=rows, in_features=columns)
        for number, (rows, columns) in enumerate(sizes)
    ]


def drawn(weight: Weight, rank: int, draws: torch.Generator) -> LowRank:
    return LowRank(
        b=torch.randn(weight.out_features, rank, generator=draws),
        a=torch.randn(rank, weight.in_features, generator=draws),
    )


def test_it_starts_from_nothing_for_every_weight() -> None:
    state = MethodState.fresh(WEIGHTS)
    assert state.ranks == dict.fromkeys([weight.name for weight in WEIGHTS], 0)
    assert set(state.updates) == {weight.name for weight in WEIGHTS}
    assert not state.importance.scores


def test_what_is_taken_over_is_kept_in_canonical_form() -> None:
    taken = {NAME: random_update(6)}
    state = MethodState.fresh(WEIGHTS).with_updates(taken, HSPLIT_LORA, OPTIONS)
    assert relative_error(state.updates[NAME], dense(taken[NAME])) < LAW
    norms = state.updates[NAME].b.norm(dim=0)
    assert bool((norms[:-1] >= norms[1:]).all()), "largest direction first"
    assert state.ranks[NAME] == 6
    assert sum(state.ranks.values()) == 6
    assert state.with_updates({}, HSPLIT_LORA, OPTIONS).ranks == MethodState.fresh(WEIGHTS).ranks


def test_a_round_makes_a_new_state_and_leaves_the_old_one() -> None:
    before = MethodState.fresh(WEIGHTS)
    trained = {NAME: random_update(3)}
    after = summed(before, result(trained, 30), result({}, 10))
    assert sum(before.ranks.values()) == 0
    assert relative_error(after.updates[NAME], 0.75 * dense(trained[NAME])) < LAW
    again = MethodState.fresh(WEIGHTS).with_updates(after.updates, HSPLIT_LORA, OPTIONS)
    assert relative_error(again.updates[NAME], dense(after.updates[NAME])) < LAW


@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        ({"model.layers.9.mlp.gate_proj": LowRank.zeros(4, 4)}, AdapterError, "not among the 21"),
        ({NAME: LowRank.zeros(5, 16)}, AdapterError, r"\[5, 16\], wanted \[24, 16\]"),
        (
            {NAME: LowRank(b=torch.full((24, 1), torch.nan), a=torch.ones(1, 16))},
            NonFiniteError,
            "NaN or infinity",
        ),
    ],
)
def test_a_client_s_update_is_checked_before_it_is_used(
    update: dict[str, LowRank], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MethodState.fresh(WEIGHTS).check(update)


@given(
    weights=small_weights(),
    num_examples=st.lists(st.integers(1, 1000), min_size=1, max_size=5),
    rank=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_split_lora_takes_the_unweighted_mean_of_b_and_of_a(
    weights: list[Weight], num_examples: list[int], rank: int, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    *adapted, untouched = weights
    kept = {untouched.name: drawn(untouched, 2, draws)}
    before = replace(
        MethodState.fresh(weights), updates={**MethodState.fresh(weights).updates, **kept}
    )
    brought = {
        client: result({weight.name: drawn(weight, rank, draws) for weight in adapted}, count)
        for client, count in enumerate(num_examples)
    }
    after = advance(SPLIT_LORA, before, brought, start=Start.FACTORS, options=OPTIONS)
    for weight in adapted:
        got = after.updates[weight.name]
        trained = [one.updates[weight.name] for one in brought.values()]
        assert_mean(got.b, (one.b for one in trained))
        assert_mean(got.a, (one.a for one in trained))
    assert after.updates[untouched.name] is kept[untouched.name], "nobody has trained it"
    assert not after.sums
    assert not after.velocities


def assert_mean(got: Tensor, factors: Iterator[Tensor]) -> None:
    """Everybody counts the same, in float64, rounded once."""
    counted = [factor.double() for factor in factors]
    wanted = sum(counted, torch.zeros_like(counted[0])) / len(counted)
    torch.testing.assert_close(got.double(), wanted, rtol=LAW, atol=LAW)


@given(
    weights=small_weights(),
    clients=st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 6)), min_size=1, max_size=5),
    known=st.integers(0, 6),
    start=st.sampled_from(Start),
    dividing=st.sampled_from(Dividing),
    seed=st.integers(0, 2**32),
)
def test_hsplit_lora_takes_the_weighted_mean_of_changes_whatever_their_ranks(
    weights: list[Weight],
    clients: list[tuple[int, int]],
    known: int,
    start: Start,
    dividing: Dividing,
    seed: int,
) -> None:
    draws = torch.Generator().manual_seed(seed)
    before = replace(
        MethodState.fresh(weights),
        updates={w.name: compress(drawn(w, known, draws)) for w in weights},
    )
    brought = [
        result({w.name: drawn(w, rank, draws) for w in weights if rank}, count)
        for count, rank in clients
    ]
    options = OPTIONS.replace(dividing=dividing)
    after = summed(before, *brought, start=start, options=options)
    for weight in weights:
        update = before.updates[weight.name]
        nothing = update.head(0)
        contributions = [
            Contribution(
                num_examples=count,
                trained=one.updates.get(weight.name, nothing),
                initial=update.head(0 if start is Start.RESTART else rank),
            )
            for one, (count, rank) in zip(brought, clients, strict=True)
        ]
        is_held = any(c.trained.rank for c in contributions)
        holders_only = dividing is Dividing.HOLDERS
        wanted = (
            aggregate(dense(update), contributions, holders_only=holders_only)
            if is_held
            else dense(update)
        )
        largest = (
            1.0 + float(wanted.norm()) + max(float(dense(c.trained).norm()) for c in contributions)
        )
        error = float((dense(after.updates[weight.name]) - wanted).norm())
        assert error <= 2e-6 * largest


def test_importance_is_blended_over_the_rounds_whatever_the_method() -> None:
    for method in (HSPLIT_LORA, SPLIT_LORA):
        state = MethodState.fresh(WEIGHTS)
        for server_round in (1, 2):
            scored = ClientResult(num_examples=3, updates={}, importance={NAME: 2.0})
            start = method.start or Start.CONTINUE
            state = advance(method, state, {1: scored}, start=start, options=OPTIONS)
            assert state.importance.num_rounds == server_round
        assert state.importance.scores[NAME] == pytest.approx(2.0)


def test_a_mean_of_fewer_factors_keeps_the_others() -> None:
    """Clients whose rank is below the pair's have trained its head and left its tail as it was."""
    before = MethodState.fresh(WEIGHTS).with_updates({NAME: random_update(6)}, SPLIT_LORA, OPTIONS)
    pair = before.updates[NAME]
    untouched = {0: ClientResult(num_examples=3, updates={NAME: pair.head(2)})}
    after = advance(SPLIT_LORA, before, untouched, start=Start.FACTORS, options=OPTIONS)
    assert torch.equal(after.updates[NAME].b, pair.b)
    assert torch.equal(after.updates[NAME].a, pair.a)
