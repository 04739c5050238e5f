"""Plans as a whole: budgets hold, nobody is forgotten, and what is said of a plan is true."""

import functools
import math
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, LlamaConfig

from hsplit_flower.costs import (
    ModelCosts,
    Workload,
    adapter_flops,
    client_memory,
    client_seconds,
    session_rank_bytes,
    trace_costs,
    whole_model_memory,
    worker_memory,
    worker_seconds,
)
from hsplit_flower.errors import ConfigError, InfeasibleBudgetError
from hsplit_flower.planning import (
    covered_importance,
    explain,
    improvement,
    objective,
    plan,
    planned_bytes,
    session_need_bytes,
)
from hsplit_flower.planning.tables import Tables
from hsplit_flower.settings import PlanSettings
from hsplit_flower.sizes import size_text
from hsplit_flower.types import DeviceProfile, Labels, Plan, Span, Start
from tests.families import FAMILIES

ROOM = 1e15


@functools.cache
def costs_of(name: str, dtype_bytes: int = 4) -> ModelCosts:
    workload = Workload(batch_size=3, sequence_length=8, dtype_bytes=dtype_bytes, attention="eager")
    return trace_costs(FAMILIES[name].config(), workload)


def device(memory_bytes: float, flops: float = 1e9, up: float = math.inf) -> DeviceProfile:
    return DeviceProfile(memory_bytes=memory_bytes, flops_per_second=flops, up_bytes_per_second=up)


@pytest.fixture(autouse=True, scope="module")
def _traced() -> None:
    """Trace before hypothesis draws: building a model touches the random state."""
    for name in ("llama", "gpt2"):
        for dtype_bytes in (2, 4):
            costs_of(name, dtype_bytes)


@st.composite
def situations(draw: st.DrawFn) -> dict[str, object]:
    costs = costs_of(draw(st.sampled_from(["llama", "gpt2"])), draw(st.sampled_from([2, 4])))
    chosen = PlanSettings(
        labels=draw(st.sampled_from(list(Labels))),
        start=draw(st.sampled_from(list(Start))),
        targets=draw(
            st.sampled_from([None, ("q_proj", "down_proj")])
            if costs.model_type == "llama"
            else st.sampled_from([None, ("c_attn",)])
        ),
        min_cut=draw(st.integers(1, 2)),
        rank_unit=draw(st.sampled_from([1, 2, 4])),
        max_rank=draw(st.sampled_from([4, 16])),
        makespan_slack=draw(st.sampled_from([0.0, 0.05])),
        worker_session_bytes=draw(st.sampled_from([None, 0.0, 2e4])),
    )
    whole = whole_model_memory(costs, rank=16, settings=chosen).total_bytes
    shares = draw(st.lists(st.floats(0.05, 1.3), min_size=1, max_size=6))
    profiles = {
        7 * index: device(share * whole, draw(st.floats(1e6, 1e9)), draw(st.floats(1e4, 1e8)))
        for index, share in enumerate(shares)
    }
    names = [weight.name for weight in costs.weights]
    scored = draw(st.booleans())
    update = draw(st.sampled_from([0, 3, 40]))
    return {
        "costs": costs,
        "profiles": profiles,
        "worker": device(draw(st.floats(0.5, 20.0)) * whole, draw(st.floats(1e6, 1e10))),
        "importance": {n: draw(st.floats(0.0, 9.0)) for n in names} if scored else None,
        "settings": chosen,
        "update_ranks": dict.fromkeys(names, update) if update else {},
    }


@settings(deadline=None, max_examples=60)
@given(situations())
def test_no_prediction_exceeds_a_budget(situation: dict[str, object]) -> None:
    profiles, costs, chosen = (situation[key] for key in ("profiles", "costs", "settings"))
    updates, worker = situation["update_ranks"], situation["worker"]
    try:
        made = plan(**situation)
    except InfeasibleBudgetError as error:
        assert "lacks" in str(error)
        return
    assert made.clients.keys() | made.left_out.keys() == profiles.keys()
    assert not made.clients.keys() & made.left_out.keys()
    predicted = planned_bytes(made, costs, settings=chosen, update_ranks=updates)
    for client, part in made.clients.items():
        assert part.memory.total_bytes <= profiles[client].memory_bytes
        assert part.memory.total_bytes == pytest.approx(predicted[client])
        assert chosen.min_cut <= part.cut <= costs.num_blocks - 1
        assert set(part.ranks.values()) <= set(chosen.allowed_ranks)
        assert part.ranks.keys() == {w.name for w in costs.target_weights(chosen.targets)}
    sessions = [(part.cut, part.ranks) for part in made.clients.values()]
    needed = worker_memory(costs, sessions=sessions, settings=chosen, update_ranks=updates)
    assert needed.total_bytes <= worker.memory_bytes * (1 + 1e-9)


@settings(deadline=None, max_examples=60)
@given(situations())
def test_a_client_is_left_out_only_if_its_smallest_cut_does_not_fit(
    situation: dict[str, object],
) -> None:
    costs, chosen = situation["costs"], situation["settings"]
    ample = {**situation, "worker": device(ROOM)}
    try:
        made = plan(**ample)
    except InfeasibleBudgetError:
        return
    lowest = {w.name: chosen.rank_unit for w in costs.target_weights(chosen.targets)}
    least = min(
        client_memory(
            costs,
            cut=chosen.min_cut,
            ranks=lowest,
            settings=chosen,
            update_ranks=situation["update_ranks"],
            checkpointing=checkpointing,
        ).total_bytes
        for checkpointing in (False, True)
    )
    for client, shortfall in made.left_out.items():
        assert shortfall.budget_bytes == situation["profiles"][client].memory_bytes
        assert shortfall.lacking_bytes > 0
        assert shortfall.needed_bytes >= least


def test_seconds_and_wire_of_a_plan() -> None:
    costs = costs_of("llama")
    profiles = {1: device(ROOM, 1e7, 1e6), 2: device(ROOM, 3e7, 2e6)}
    worker = device(ROOM, 2e7)
    made = plan(costs, profiles, worker)
    slowest, load = 0.0, 0.0
    for client, part in made.clients.items():
        more = [
            adapter_flops(costs, span=span, ranks=part.ranks, start=Start.CONTINUE)
            for span in (part.span, Span(start=part.cut, stop=costs.num_blocks))
        ]
        assert min(more) >= 0
        below = client_seconds(
            costs,
            cut=part.cut,
            profile=profiles[client],
            labels=Labels.SERVER,
            more_flops=more[0],
        )
        assert part.client_seconds == pytest.approx(below)
        slowest = max(slowest, below)
        load += worker_seconds(
            costs, cut=part.cut, worker=worker, labels=Labels.SERVER, more_flops=more[1]
        )
    assert made.step_seconds == pytest.approx(max(slowest, load))
    assert made.clients[1].client_seconds > 0
    assert made.clients[1].wire_bytes > 2 * costs.wire_hidden_bytes


def test_uniform_ranks_until_importance_is_known() -> None:
    costs = costs_of("llama")
    names = [weight.name for weight in costs.weights]
    granted = session_need_bytes(costs, rank=2)
    chosen = PlanSettings(worker_session_bytes=granted, min_cut=1)
    tables = Tables(costs=costs, settings=chosen, update_ranks={}, importance=None)
    profiles = {0: device(tables.uniform_rank_bytes(5)[1])}
    uniform = plan(costs, profiles, device(ROOM), settings=chosen).clients[0]
    assert uniform.cut == 1
    below = {uniform.ranks[n] for n in names if ".0." in n}
    above = {uniform.ranks[n] for n in names if ".0." not in n}
    assert (below, above) == ({5}, {2})
    importance = {name: float(index + 1) ** 2 for index, name in enumerate(names)}
    informed = plan(costs, profiles, device(ROOM), importance=importance, settings=chosen).clients[
        0
    ]
    assert len(set(informed.ranks.values())) >= 3
    spent = sum(
        informed.ranks[w.name] * session_rank_bytes(costs, w, 0, start=Start.CONTINUE)
        for w in costs.weights
        if w.block >= 1
    )
    assert spent <= granted
    covered = [
        covered_importance(part.ranks, importance, gain_base=chosen.gain_base)
        for part in (uniform, informed)
    ]
    assert covered[1] > covered[0]


def test_a_client_is_planned_the_same_whoever_else_is_there() -> None:
    costs = costs_of("llama")
    whole = whole_model_memory(costs, rank=16).total_bytes
    chosen = PlanSettings(worker_session_bytes=1e5)
    twins = {client: device(0.5 * whole) for client in range(4)}
    made = plan(costs, twins, device(ROOM, 1e12), settings=chosen)
    assert len({(part.cut, tuple(part.ranks.items())) for part in made.clients.values()}) == 1


def test_nobody_fits() -> None:
    costs = costs_of("gpt2")
    profiles = {3: device(1000.0), 5: device(2000.0)}
    with pytest.raises(
        InfeasibleBudgetError, match=r"client 3 has 1 kB, .* lacks [\d.]+ kB; client 5 has 2 kB"
    ):
        plan(costs, profiles, device(ROOM))


def test_no_clients_no_plan() -> None:
    assert plan(costs_of("gpt2"), {}, device(ROOM)) == Plan(clients={})


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_cut is 9, but a llama of 3 blocks"):
        plan(costs_of("llama"), {0: device(ROOM)}, device(ROOM), settings=PlanSettings(min_cut=9))
    with pytest.raises(ConfigError, match=r"min_cut.*0.*rank_unit.*20 and 16.*gain_base"):
        PlanSettings(min_cut=0, rank_unit=20, gain_base=1.0)


def test_explain_names_everyone() -> None:
    costs = costs_of("llama")
    profiles = {0: device(ROOM), 4: device(1234.0)}
    made = plan(costs, profiles, device(ROOM))
    text = explain(made, profiles)
    lacking = made.left_out[4].lacking_bytes
    assert "client 4 is left out" in text
    assert f"it has 1.234 kB and lacks {size_text(lacking)}" in text
    assert any(line.split()[:1] == ["0"] and "16-16" in line for line in text.splitlines())
    assert "no client takes part" in explain(Plan(clients={}))


def test_objective_prefers_better_ranks_and_faster_steps() -> None:
    costs = costs_of("llama")
    names = [weight.name for weight in costs.weights]
    importance = {name: 1.0 + index for index, name in enumerate(names)}
    profiles, worker = {0: device(ROOM, 1e8)}, device(ROOM, 1e12)
    chosen = PlanSettings(worker_session_bytes=session_need_bytes(costs, rank=1), max_rank=8)
    rate = functools.partial(
        objective,
        costs=costs,
        profiles=profiles,
        worker=worker,
        importance=importance,
        settings=chosen,
    )
    uniform = plan(costs, profiles, worker, settings=chosen)
    informed = plan(costs, profiles, worker, importance=importance, settings=chosen)
    assert rate(informed) > rate(uniform) > 0
    slower = {0: device(ROOM, 1e7)}
    assert rate(informed, profiles=slower) < rate(informed)
    assert rate(informed, profiles={}) == 0.0
    assert improvement(rate(uniform), rate(informed)) > 0
    assert improvement(2.0, 1.0) == -0.5
    assert improvement(0.0, 0.0) == 0.0
    assert improvement(0.0, 1.0) == math.inf


def test_a_growing_update_takes_room_from_ranks() -> None:
    costs = costs_of("llama")
    names = [weight.name for weight in costs.weights]
    chosen = PlanSettings(min_cut=3, start=Start.RESTART)
    tables = Tables(costs=costs, settings=chosen, update_ranks={}, importance=None)
    budget = tables.uniform_rank_bytes(8)[3]
    profiles = {0: device(budget)}
    first = plan(costs, profiles, device(ROOM), settings=chosen)
    updates = dict.fromkeys(names, 4)
    grown = planned_bytes(first, costs, settings=chosen, update_ranks=updates)
    assert grown[0] > first.clients[0].memory.total_bytes
    second = plan(costs, profiles, device(ROOM), settings=chosen, update_ranks=updates)
    assert sum(second.clients[0].ranks.values()) < sum(first.clients[0].ranks.values())
    assert second.clients[0].memory.frozen_factors_bytes > 0


def test_a_thousand_clients_on_llama2_7b_take_under_two_seconds() -> None:
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        vocab_size=32000,
    )
    costs = trace_costs(config, Workload(batch_size=2, sequence_length=256, dtype_bytes=2))
    whole = whole_model_memory(costs, rank=16).total_bytes
    source = random.Random(5)
    profiles = {
        client: device(
            source.uniform(0.1, 1.0) * whole,
            source.uniform(1e12, 1e13),
            source.uniform(1e6, 1e8),
        )
        for client in range(1000)
    }
    importance = {weight.name: source.random() for weight in costs.weights}
    started = time.process_time()
    made = plan(costs, profiles, device(1e13, 1e15), importance=importance)
    assert time.process_time() - started < 2.0
    assert len(made.clients) + len(made.left_out) == 1000
    assert len({part.cut for part in made.clients.values()}) > 5


def test_profiles_are_not_changed_by_name_order() -> None:
    costs = costs_of("gpt2")
    whole = whole_model_memory(costs, rank=16).total_bytes
    profiles = {client: device(share * whole) for client, share in enumerate((0.9, 0.4, 0.6))}
    there = plan(costs, profiles, device(ROOM, 1e9))
    back = plan(costs, dict(reversed(profiles.items())), device(ROOM, 1e9))
    assert there == replace(back, clients=dict(sorted(back.clients.items())))


@pytest.fixture(scope="module")
def built_in(request: pytest.FixtureRequest) -> ModelCosts:
    folder: Path = request.getfixturevalue("llama_tiny")
    if not folder.is_dir():
        pytest.skip(f"the built-in base is not there: no folder {folder}")
    workload = Workload(batch_size=16, sequence_length=96, attention="eager")
    return trace_costs(AutoConfig.from_pretrained(folder), workload)


def test_the_built_in_base_is_planned(built_in: ModelCosts) -> None:
    whole = whole_model_memory(built_in, rank=16).total_bytes
    made = plan(built_in, {0: device(0.25 * whole)}, device(ROOM))
    assert 1 <= made.clients[0].cut < 4


def test_blocks_are_run_twice_where_nothing_else_fits() -> None:
    costs = costs_of("llama")
    keeping = Tables(
        costs=costs, settings=PlanSettings(min_cut=3, max_rank=1), update_ranks={}, importance=None
    )
    recomputing = replace(keeping, checkpointing=True)
    between = (keeping.lowest_rank_bytes[3] + recomputing.lowest_rank_bytes[3]) / 2
    assert recomputing.lowest_rank_bytes[3] < between < keeping.lowest_rank_bytes[3]
    profiles = {0: device(between), 1: device(ROOM)}
    made = plan(costs, profiles, device(ROOM), settings=keeping.settings)
    assert made.clients[0].checkpointing
    assert made.clients[0].memory.total_bytes <= between
    assert not made.clients[1].checkpointing
    assert made.clients[0].client_seconds > made.clients[1].client_seconds
    assert "3*" in explain(made)
    without = replace(keeping.settings, checkpointing=False)
    assert list(plan(costs, profiles, device(ROOM), settings=without).left_out) == [0]


def test_blocks_are_run_twice_only_where_that_shortens_the_step() -> None:
    costs = costs_of("llama")
    keeping = Tables(costs=costs, settings=PlanSettings(), update_ranks={}, importance=None)
    budget = (keeping.lowest_rank_bytes[1] + keeping.lowest_rank_bytes[2]) / 2
    profiles = {0: device(budget, 1e9, 1e9)}
    fast = plan(costs, profiles, device(ROOM, 1e12)).clients[0]
    assert (fast.cut, fast.checkpointing) == (1, False)
    slow = plan(costs, profiles, device(ROOM, 1e7)).clients[0]
    assert slow.cut > 1
    assert slow.checkpointing
    assert slow.memory.total_bytes <= budget
