"""What of a round's clients is used, against float64 on dense matrices."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hsplit_flower.adapters import LowRank, compress, initial_update
from hsplit_flower.methods import (
    FLEX_LORA,
    FLORA,
    HSPLIT_LORA,
    SPLIT_LORA,
    ClientResult,
    Method,
    MethodState,
    advance,
    compared,
)
from hsplit_flower.methods.comparison import block_of, squared_distances
from hsplit_flower.settings import Aggregation
from hsplit_flower.types import Scaling, Start, Weight
from tests.reference.aggregation import dense, relative_error

LAW = 1e-6
WEIGHTS = [
    Weight(name=f"layers.{block}.{kind}", block=block, out_features=out, in_features=7)
    for block in range(2)
    for kind, out in (("q", 9), ("up", 12))
]
SCALING = Scaling()
WHOLE = Aggregation(mean_rank=0)


def drawn(weight: Weight, rank: int, size: float = 1.0) -> LowRank:
    return LowRank(
        b=size * torch.randn(weight.out_features, rank), a=torch.randn(rank, weight.in_features)
    )


def known() -> MethodState:
    updates = {weight.name: compress(drawn(weight, 3, 0.3)) for weight in WEIGHTS}
    return replace(MethodState.fresh(WEIGHTS), updates=updates)


def brought(
    state: MethodState, ranks: list[int], start: Start, sizes: list[float]
) -> dict[int, ClientResult]:
    """Clients whose changes have about these sizes; rank 0 is one that trains the first block."""
    results = {}
    for client, (rank, size) in enumerate(zip(ranks, sizes, strict=True)):
        updates = {}
        for weight in WEIGHTS if rank else WEIGHTS[:2]:
            own = max(1, rank)
            before = initial_update(state.updates[weight.name], own, start)
            b, a = torch.zeros(weight.out_features, own), torch.randn(own, weight.in_features)
            b[:, : before.rank], a[: before.rank] = before.b, before.a
            b += size * torch.randn_like(b)
            updates[weight.name] = LowRank(b=b, a=a)
        results[client] = ClientResult(num_examples=10 + client, updates=updates)
    return results


def change_of(state: MethodState, result: ClientResult, name: str, start: Start) -> Tensor:
    trained = result.updates[name]
    return dense(trained) - dense(initial_update(state.updates[name], trained.rank, start))


def wanted_shares(
    state: MethodState, results: dict[int, ClientResult], start: Start, above: float
) -> dict[int, dict[str, float]]:
    """What is kept of each weight, from matrices."""
    norms: dict[str, dict[int, float]] = {}
    for client, result in results.items():
        for name in result.updates:
            rank = result.updates[name].rank
            usual = SCALING.of(rank) * rank**0.5
            norm = float(change_of(state, result, name, start).norm()) / usual
            norms.setdefault(name, {})[client] = norm
    shares: dict[int, dict[str, float]] = {client: {} for client in results}
    for name, of in norms.items():
        bound = above * sorted(of.values())[(len(of) - 1) // 2]
        for client, norm in of.items():
            shares[client][name] = min(1.0, bound / norm) if len(of) > 1 else 1.0
    return shares


rounds = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 5]), st.sampled_from([0.1, 0.2, 1.0, 9.0, 300.0])),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(rounds, st.sampled_from([HSPLIT_LORA, FLORA, FLEX_LORA]), st.booleans(), st.integers(0, 999))
def test_a_shortened_change_is_added_exactly_at_its_share(
    told: list[tuple[int, float]], method: Method, continues: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    start = method.start or (Start.CONTINUE if continues else Start.RESTART)
    state = known()
    results = brought(state, [rank for rank, _ in told], start, [size for _, size in told])
    options = WHOLE.replace(clip_above=2.0, refuse_above=0.0)
    found = compared(method, state, results, start=start, options=options, scaling=SCALING)
    after = advance(method, state, found.results, start=start, options=options)
    shares = wanted_shares(state, results, start, 2.0)
    total = sum(result.num_examples for result in results.values())
    for weight in WEIGHTS:
        name = weight.name
        wanted = dense(state.updates[name])
        held = {client: r for client, r in results.items() if name in r.updates}
        if method is FLEX_LORA:
            # Its mean is of what clients have, not of what they changed.
            wanted = torch.zeros_like(wanted)
        for client, result in held.items():
            moved = shares[client][name] * change_of(state, result, name, start)
            if method is FLEX_LORA:
                rank = result.updates[name].rank
                moved = moved + dense(initial_update(state.updates[name], rank, start))
            wanted = wanted + result.num_examples / total * moved
        if not held:
            continue
        assert relative_error(after.updates[name], wanted) <= 3 * LAW
        for client in held:
            got = found.proportions[client].kept.get(name, 1.0)
            assert got == pytest.approx(shares[client][name], rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(rounds, st.sampled_from([Start.RESTART, Start.CONTINUE]), st.integers(0, 999))
def test_distances_from_factors_are_those_of_the_matrices(
    told: list[tuple[int, float]], start: Start, seed: int
) -> None:
    torch.manual_seed(seed)
    state = known()
    results = brought(state, [rank for rank, _ in told], start, [size for _, size in told])
    changes = []
    matrices = []
    for result in results.values():
        of = {name: change_of(state, result, name, start) for name in result.updates}
        matrices.append(
            torch.cat(
                [
                    of.get(w.name, torch.zeros(w.out_features, w.in_features).double()).flatten()
                    for w in WEIGHTS
                ]
            )
        )
        starts = {
            name: initial_update(state.updates[name], update.rank, start)
            for name, update in result.updates.items()
        }
        changes.append(
            {
                name: update - starts[name] if starts[name].rank else update
                for name, update in result.updates.items()
            }
        )
    got = squared_distances(changes)
    for i, one in enumerate(matrices):
        for j, other in enumerate(matrices):
            scale = float(one.square().sum() + other.square().sum())
            wanted = float((one - other).square().sum())
            assert float(got[i, j]) == pytest.approx(wanted, abs=1e-6 * scale)


@pytest.mark.parametrize("times", [-30.0, 1000.0])
def test_one_of_three_that_multiplies_its_change_is_left_out_by_name(times: float) -> None:
    torch.manual_seed(0)
    state = MethodState.fresh(WEIGHTS)
    results = brought(state, [2, 4, 1], Start.RESTART, [0.2, 0.2, 0.2])
    honest = {client: results[client] for client in (0, 2)}
    lie = {name: update.scale(times) for name, update in results[1].updates.items()}
    told = {**results, 1: replace(results[1], updates=lie, num_examples=2**40)}
    found = compared(HSPLIT_LORA, state, told, start=Start.RESTART, options=WHOLE, scaling=SCALING)
    assert set(found.results) == {0, 2}
    assert found.proportions[1].is_refused
    assert found.proportions[1].multiple > 10
    alone, after = (
        advance(HSPLIT_LORA, state, each, start=Start.RESTART, options=WHOLE)
        for each in (honest, found.results)
    )
    for name in state.updates:
        assert torch.equal(alone.updates[name].b, after.updates[name].b)


def test_pairs_of_factors_are_moved_back_each_on_its_own() -> None:
    """SplitLoRA: a liar's ``A`` is brought within the multiple; what all share is not compared."""
    torch.manual_seed(0)
    state = known()
    results = brought(state, [3, 3, 3], Start.FACTORS, [0.1, 0.1, 0.1])
    shared = results[0].updates["layers.1.q"]
    for client, result in results.items():
        a = {
            name: LowRank(b=u.b, a=u.a + 0.1 * torch.randn_like(u.a) * (60 if client == 1 else 1))
            for name, u in result.updates.items()
        }
        results[client] = replace(result, updates={**a, "layers.1.q": shared})
    options = Aggregation(clip_above=2.0, refuse_above=0.0)
    found = compared(
        SPLIT_LORA, state, results, start=Start.FACTORS, options=options, scaling=SCALING
    )
    assert set(found.proportions[1].kept) == {
        f"{name}, A" for name in state.updates if name != "layers.1.q"
    }
    moved = found.results[1].updates
    assert torch.equal(moved["layers.1.up"].b, results[1].updates["layers.1.up"].b)
    assert torch.equal(moved["layers.1.q"].a, shared.a)
    for kind in ("q", "up"):
        lengths = sorted(
            float((r.updates[f"layers.0.{kind}"].a - state.updates[f"layers.0.{kind}"].a).norm())
            for r in found.results.values()
        )
        assert lengths[-1] <= 3 * lengths[0]


def test_no_claim_of_examples_or_importance_is_believed_beyond_measure() -> None:
    torch.manual_seed(0)
    state = MethodState.fresh(WEIGHTS)
    results = brought(state, [2, 2, 2], Start.RESTART, [0.2, 0.2, 0.2])
    told = {
        client: replace(
            result,
            num_examples=2**40 if client == 1 else 10,
            importance={"layers.0.q": 1e30 if client == 1 else 2.0},
        )
        for client, result in results.items()
    }
    found = compared(HSPLIT_LORA, state, told, start=Start.RESTART, options=WHOLE, scaling=SCALING)
    assert [found.results[client].num_examples for client in range(3)] == [10, 100, 10]
    assert found.results[1].importance == {"layers.0.q": 20.0}
    off = WHOLE.replace(clip_above=0.0, refuse_above=0.0, examples_above=0.0)
    kept = compared(HSPLIT_LORA, state, told, start=Start.RESTART, options=off, scaling=SCALING)
    assert kept.results == told


@pytest.mark.parametrize("method", [HSPLIT_LORA, SPLIT_LORA])
def test_krum_uses_one_and_multi_krum_all_but_the_farthest(method: Method) -> None:
    torch.manual_seed(0)
    state, start = known(), method.start or Start.CONTINUE
    results = brought(state, [3] * 5, start, [0.1] * 5)
    # Turned round, it is as long as the others and no norm tells it.
    common = {w.name: torch.randn(w.out_features, 3) for w in WEIGHTS}
    for client, result in results.items():
        sign = -1.0 if client == 3 else 1.0
        updates = {
            name: LowRank(b=u.b + sign * common[name], a=u.a) for name, u in result.updates.items()
        }
        results[client] = replace(result, updates=updates)
    for selection, count in (("krum", 1), ("multi-krum", 4), ("all", 5)):
        options = Aggregation(selection=selection, num_malicious_nodes=1)
        found = compared(method, state, results, start=start, options=options, scaling=SCALING)
        assert len(found.results) == count
        assert (3 in found.results) == (selection == "all")
        assert found.unselected == set(range(5)) - set(found.results)


def test_a_block_is_what_comes_up_to_the_first_number() -> None:
    assert block_of("model.layers.3.self_attn.q_proj") == "model.layers.3"
    assert block_of("transformer.h.12.mlp.experts.7.w1") == "transformer.h.12"
    assert block_of("head") == "head"


def test_alone_a_client_is_what_it_is() -> None:
    torch.manual_seed(0)
    state = known()
    results = brought(state, [2], Start.CONTINUE, [1e3])
    options = WHOLE.replace(selection="krum")
    found = compared(
        HSPLIT_LORA, state, results, start=Start.CONTINUE, options=options, scaling=SCALING
    )
    assert found.results == results
