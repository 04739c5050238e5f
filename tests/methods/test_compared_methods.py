"""A round of each method that we compare with, against naive float64, over random rounds."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hsplit_flower.adapters import LowRank, compress
from hsplit_flower.errors import AdapterError, NonFiniteError
from hsplit_flower.methods import (
    FED_LORA,
    FLEX_LORA,
    FLORA,
    FULL_TUNING,
    HET_LORA,
    HSPLIT_LORA_PADDED,
    METHODS,
    ClientResult,
    Method,
    MethodState,
    advance,
    sent_updates,
    trained_ranks,
)
from hsplit_flower.settings import Aggregation
from hsplit_flower.types import Start, Weight
from tests.reference import methods as reference
from tests.reference.aggregation import dense, relative_error

# Products of float32 factors, rounded once.
LAW = 1e-6
WEIGHTS = [
    Weight(name="wide", block=0, out_features=7, in_features=12),
    Weight(name="tall", block=1, out_features=9, in_features=5),
    Weight(name="idle", block=1, out_features=4, in_features=4),
]
ADAPTED = WEIGHTS[:2]
Mean = Callable[[Sequence[reference.Trained]], tuple[Tensor, Tensor]]
Told = list[tuple[int, int]]
"""Examples and rank of each client."""

tolds = st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 6)), min_size=1, max_size=5)
seeds = st.integers(0, 2**32)


def drawn(weight: Weight, rank: int, draws: torch.Generator) -> LowRank:
    return LowRank(
        b=torch.randn(weight.out_features, rank, generator=draws),
        a=torch.randn(rank, weight.in_features, generator=draws),
    )


def brought(told: Told, draws: torch.Generator) -> dict[int, ClientResult]:
    """What clients have trained of all weights but the last."""
    return {
        client: ClientResult(
            num_examples=count, updates={w.name: drawn(w, rank, draws) for w in ADAPTED}
        )
        for client, (count, rank) in enumerate(told)
    }


def known(draws: torch.Generator, rank: int = 3) -> MethodState:
    """A state that knows something of every weight."""
    updates = {weight.name: compress(drawn(weight, rank, draws)) for weight in WEIGHTS}
    return replace(MethodState.fresh(WEIGHTS), updates=updates)


def after(method: Method, state: MethodState, results: dict[int, ClientResult]) -> MethodState:
    start = method.start or Start.CONTINUE
    return advance(method, state, results, start=start, options=Aggregation())


def trained(results: dict[int, ClientResult], name: str) -> list[reference.Trained]:
    return [reference.Trained.of(r.num_examples, r.updates[name]) for r in results.values()]


@pytest.mark.parametrize(
    ("method", "mean"),
    [
        (FED_LORA, reference.fed_lora),
        (HET_LORA, reference.het_lora),
        (HSPLIT_LORA_PADDED, reference.padded),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
@settings(deadline=None)
@given(told=tolds, seed=seeds)
def test_a_pair_is_the_mean_of_both_factors_with_the_methods_weights(
    method: Method, mean: Mean, told: Told, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    if method is FED_LORA:
        told = [(count, told[0][1]) for count, _ in told]
    results, before = brought(told, draws), known(draws, rank=1)
    state = after(method, before, results)
    for weight in ADAPTED:
        b, a = mean(trained(results, weight.name))
        torch.testing.assert_close(state.updates[weight.name].b.double(), b, rtol=LAW, atol=LAW)
        torch.testing.assert_close(state.updates[weight.name].a.double(), a, rtol=LAW, atol=LAW)
    assert state.updates["idle"] is before.updates["idle"], "nobody has trained it"


def test_where_nobody_has_learnt_anything_all_count_the_same() -> None:
    nothing = LowRank(b=torch.zeros(7, 2), a=torch.ones(2, 12))
    results = {
        client: ClientResult(num_examples=client + 1, updates={"wide": nothing})
        for client in range(3)
    }
    state = after(HET_LORA, MethodState.fresh(WEIGHTS), results)
    assert torch.equal(state.updates["wide"].a, torch.ones(2, 12))
    assert not state.updates["wide"].b.any()


@settings(deadline=None)
@given(told=tolds, later=tolds, seed=seeds)
def test_flora_adds_the_weighted_products_in_every_round(
    told: Told, later: Told, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    state = known(draws)
    wanted = {name: dense(update) for name, update in state.updates.items()}
    for each in (told, later):
        results = brought(each, draws)
        state = after(FLORA, state, results)
        for weight in ADAPTED:
            wanted[weight.name] += reference.weighted_products(trained(results, weight.name))
        for name, update in state.updates.items():
            assert relative_error(update, wanted[name]) <= 3 * LAW


@settings(deadline=None)
@given(told=tolds, seed=seeds)
def test_flex_lora_decomposes_the_dense_sum_and_gives_each_rank_its_best_part(
    told: Told, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    results, before = brought(told, draws), known(draws)
    state = after(FLEX_LORA, before, results)
    for weight in ADAPTED:
        total = reference.weighted_products(trained(results, weight.name))
        # The matrix is formed in float32.
        assert relative_error(state.updates[weight.name], total) <= 5 * LAW
        for _, rank in told:
            sent = sent_updates(FLEX_LORA, state.updates, {weight.name: rank})[weight.name]
            best = reference.best_part(total, rank)
            missed = torch.linalg.norm(total - dense(sent)) - torch.linalg.norm(total - best)
            assert float(missed) <= 1e-5 * float(torch.linalg.norm(total))
            assert sent.rank <= rank
    assert state.updates["idle"] is before.updates["idle"]


@settings(deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=4),
    counts=st.lists(st.integers(1, 1000), min_size=1, max_size=5),
    seed=seeds,
)
def test_full_tuning_takes_the_weighted_mean_of_every_parameter(
    shapes: list[list[int]], counts: list[int], seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    ends = [[torch.randn(shape, generator=draws) for shape in shapes] for _ in counts]
    results = {
        client: ClientResult(
            num_examples=count,
            weights={str(i): weight for i, weight in enumerate(ends[client])},
        )
        for client, count in enumerate(counts)
    }
    state = after(FULL_TUNING, MethodState.fresh(WEIGHTS), results)
    for i, shape in enumerate(shapes):
        wanted = sum(
            (
                count / sum(counts) * end[i].double()
                for count, end in zip(counts, ends, strict=True)
            ),
            torch.zeros(shape, dtype=torch.float64),
        )
        got = state.weights[str(i)].double()
        torch.testing.assert_close(got, wanted, rtol=LAW, atol=LAW)
    assert not any(state.ranks.values())


def test_clients_that_trained_another_model_cannot_be_averaged() -> None:
    from hsplit_flower.aggregation import check_weights, mean_of_weights

    wanted = {"w": [2, 3]}
    check_weights({"w": torch.zeros(2, 3)}, wanted)
    with pytest.raises(AdapterError, match="'v' is on one side alone"):
        check_weights({"w": torch.zeros(2, 3), "v": torch.zeros(1)}, wanted)
    with pytest.raises(AdapterError, match=r"shape \[3, 2\], wanted \[2, 3\]"):
        check_weights({"w": torch.zeros(3, 2)}, wanted)
    with pytest.raises(NonFiniteError, match="'w' holds NaN"):
        check_weights({"w": torch.full((2, 3), torch.nan)}, wanted)
    with pytest.raises(AdapterError, match="diverged"):
        check_weights({"w": torch.full((2, 3), 1e10)}, wanted)
    with pytest.raises(AdapterError, match="at least one client"):
        mean_of_weights([], [])


@settings(deadline=None)
@given(
    ranks=st.lists(st.integers(1, 120), min_size=2, max_size=2),
    grows=st.floats(0.5, 1.5),
    seed=seeds,
)
def test_a_client_of_het_lora_prunes_where_its_tails_have_shrunk(
    ranks: list[int], grows: float, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    told = dict(zip(("wide", "tall"), ranks, strict=True))
    pairs = {w.name: drawn(w, told[w.name], draws) for w in ADAPTED}
    before = replace(
        MethodState.fresh(WEIGHTS), updates={**MethodState.fresh(WEIGHTS).updates, **pairs}
    )
    ends = {
        name: LowRank(
            b=pair.b * grows + 1e-3 * torch.randn(pair.b.shape, generator=draws), a=pair.a
        )
        for name, pair in pairs.items()
    }
    state = after(HET_LORA, before, {5: ClientResult(num_examples=1, updates=ends)})
    starts = [int(0.99 * rank + 1e-9) for rank in ranks]
    tails = [
        reference.tail_norms([(e.b.double(), e.a.double()) for e in each.values()], starts)
        for each in (pairs, ends)
    ]
    pruned = {name: max(1, start) for name, start in zip(told, starts, strict=True)}
    assert state.client_ranks == {5: pruned if tails[1] < tails[0] else told}
    planned = {"wide": 200, "tall": 1, "idle": 3}
    now = trained_ranks(HET_LORA, state, 5, planned)
    assert now == {"wide": state.client_ranks[5]["wide"], "tall": 1, "idle": 3}
    assert trained_ranks(HET_LORA, state, 6, planned) == planned, "another client has its own"
    assert trained_ranks(FLORA, state, 5, planned) == planned


def test_the_first_round_prunes_nobody() -> None:
    """Fresh factors are zero, and so can only grow."""
    draws = torch.Generator().manual_seed(0)
    state = after(HET_LORA, MethodState.fresh(WEIGHTS), brought([(1, 4), (2, 2)], draws))
    assert state.client_ranks == {0: {"wide": 4, "tall": 4}, 1: {"wide": 2, "tall": 2}}


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda row: row.name)
def test_a_client_is_sent_all_or_what_it_trains(method: Method) -> None:
    updates = known(torch.Generator().manual_seed(0)).updates
    sent = sent_updates(method, updates, {"wide": 2, "tall": 9})
    ranks = {name: update.rank for name, update in sent.items()}
    everything = {"wide": 3, "tall": 3, "idle": 3}
    assert ranks == ({"wide": 2, "tall": 3, "idle": 0} if method.truncates else everything)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda row: row.name)
def test_an_adapter_can_be_taken_over_by_every_method(method: Method) -> None:
    draws = torch.Generator().manual_seed(0)
    taken = {"wide": drawn(WEIGHTS[0], 3, draws)}
    state = MethodState.fresh(WEIGHTS).with_updates(taken, method, Aggregation())
    assert (state.updates["wide"] is taken["wide"]) == method.keeps_pair
    assert relative_error(state.sum_of("wide"), dense(taken["wide"])) <= LAW
    assert bool(state.sums) == method.is_bounded(Aggregation())
