"""When a standing plan is given up, told by what the planner does and says."""

from collections.abc import Mapping
from dataclasses import astuple, replace
from typing import Any

import pytest

from hsplit_flower.costs import worker_half_bytes
from hsplit_flower.errors import InfeasibleBudgetError, OutOfBudgetError
from hsplit_flower.importance import ImportanceReport
from hsplit_flower.planning import ReplanSettings
from hsplit_flower.planning.tables import Tables
from hsplit_flower.server import ClientReport, RoundReport
from hsplit_flower.server.round_planner import RoundPlanner
from hsplit_flower.settings import PlanSettings, Training
from hsplit_flower.simulation.clock import RoundClock
from hsplit_flower.simulation.disturbances import Disturbances
from hsplit_flower.sizes import size_text
from hsplit_flower.splitting import read_architecture
from hsplit_flower.strategies import HSplitLoRA
from hsplit_flower.types import ClientInfo, DeviceProfile, Plan, WorkerDescription
from tests.families import FAMILIES
from tests.strategies.clients import NODES, WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid

TRAINING = Training(batch_size=3, sequence_length=9)
# So slow that the cut is low, with memory for every rank; the worker's budget is what binds.
SLOW = DeviceProfile(memory_bytes=1e9, flops_per_second=1e6)
TIGHT = PlanSettings(max_rank=6, worker_session_bytes=12_000)
WORKER = WorkerDescription(
    model="a tiny llama",
    num_blocks=3,
    lowest_cut=1,
    memory_bytes=4e9,
    flops_per_second=1e10,
    dtype="float32",
    max_sessions=256,
)


def planner_of(
    *,
    replanning: ReplanSettings | None = None,
    settings: PlanSettings = TIGHT,
    fleet: str | None = None,
    session_rank: int | None = None,
    disturbances: Disturbances | None = None,
    training: Training = TRAINING,
) -> RoundPlanner:
    config = FAMILIES["llama"].config()
    made = RoundPlanner(
        config,
        read_architecture(config),
        training,
        settings,
        replanning,
        fleet,
        session_rank,
        disturbances,
    )
    made.meet_worker(WORKER)
    return made


def members(count: int = 2, profile: DeviceProfile = SLOW) -> dict[int, ClientInfo]:
    return {
        NODES[i]: ClientInfo(profile=profile, num_examples=5, partition=i, num_partitions=count)
        for i in range(count)
    }


def importance_of(planner: RoundPlanner, favourite: str) -> list[ImportanceReport]:
    """All weights matter alike, but those whose name ends so matter a hundred times more."""
    scores = {
        weight.name: 100.0 if weight.name.endswith(favourite) else 1.0
        for weight in planner.costs.weights
    }
    return [ImportanceReport(num_examples=5, scores=scores)]


def ranks_above(planner: RoundPlanner, ending: str) -> list[int]:
    assert planner.standing is not None
    part = planner.standing.clients[NODES[0]]
    blocks = range(part.cut, 3)
    return [part.ranks[f"model.layers.{block}.{ending}"] for block in blocks]


def test_the_worker_has_what_it_says_beside_its_half() -> None:
    planner = planner_of()
    tables = Tables(costs=planner.costs, settings=TIGHT, update_ranks={}, importance=None)
    deepest = planner.costs.num_blocks - 1
    sessions = tables.worker_base_bytes[deepest] + 2 * tables.session_bytes[deepest]
    beside = sessions - worker_half_bytes(planner.costs, TIGHT)
    planner.meet_worker(replace(WORKER, memory_bytes=0.999 * beside))
    with pytest.raises(InfeasibleBudgetError, match="the split worker has"):
        planner.plan_round(members(), {})
    planner.meet_worker(replace(WORKER, memory_bytes=1.001 * beside))
    assert {part.cut for part in planner.plan_round(members(), {}).clients.values()} == {deepest}


def test_the_first_round_has_a_plan_without_any_importance() -> None:
    planner = planner_of()
    plan = planner.plan_round(members(), {})
    assert (planner.decision.replan, planner.decision.reason) == (True, "the first round")
    assert set(plan.clients) == set(NODES[:2])
    assert len(set(ranks_above(planner, "mlp.up_proj"))) == 1


def test_drift_gives_the_budget_to_what_matters_now() -> None:
    planner = planner_of(replanning=ReplanSettings(cooldown_rounds=0))
    planner.plan_round(members(), {})
    before = ranks_above(planner, "self_attn.v_proj")
    planner.learn(importance_of(planner, "self_attn.v_proj"))
    planner.plan_round(members(), {})
    assert planner.decision.replan
    assert planner.drift > 0.1
    assert "importance drifted by" in planner.decision.reason
    assert sum(ranks_above(planner, "self_attn.v_proj")) > sum(before)


def test_the_same_importance_again_changes_nothing() -> None:
    planner = planner_of(replanning=ReplanSettings(cooldown_rounds=0))
    planner.plan_round(members(), {})
    planner.learn(importance_of(planner, "self_attn.v_proj"))
    standing = planner.plan_round(members(), {})
    for _ in range(3):
        planner.learn(importance_of(planner, "self_attn.v_proj"))
        assert planner.plan_round(members(), {}) is standing
        assert not planner.decision.replan
        assert planner.drift == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("cooldown", [0, 1, 2, 3])
def test_not_within_the_cooldown(cooldown: int) -> None:
    planner = planner_of(replanning=ReplanSettings(cooldown_rounds=cooldown))
    planner.plan_round(members(), {})
    planner.learn(importance_of(planner, "self_attn.v_proj"))
    replanned, reasons = [], []
    for _ in range(4):
        planner.plan_round(members(), {})
        replanned.append(planner.decision.replan)
        reasons.append(planner.decision.reason)
    first = max(0, cooldown - 1)
    assert replanned.index(True) == first
    assert all(f"stands for {cooldown}" in reason for reason in reasons[:first])
    assert replanned.count(True) == 1, "the new plan was made from today's importance"


def test_not_below_the_threshold() -> None:
    planner = planner_of(replanning=ReplanSettings(cooldown_rounds=0, drift_threshold=0.99))
    planner.plan_round(members(), {})
    planner.learn(importance_of(planner, "self_attn.v_proj"))
    planner.plan_round(members(), {})
    assert not planner.decision.replan
    assert "<= 0.99" in planner.decision.reason


def test_not_for_a_plan_that_is_hardly_better() -> None:
    roomy = replace(TIGHT, worker_session_bytes=None)
    planner = planner_of(replanning=ReplanSettings(cooldown_rounds=0), settings=roomy)
    planner.plan_round(members(), {})
    planner.learn(importance_of(planner, "self_attn.v_proj"))
    planner.plan_round(members(), {})
    assert not planner.decision.replan
    assert "promises +0.0%" in planner.decision.reason


@pytest.mark.parametrize("what", ["joins", "shrinks"])
def test_who_cannot_be_served_is_planned_for_at_once(what: str) -> None:
    planner = planner_of(replanning=ReplanSettings(cooldown_rounds=9))
    planner.plan_round(members(), {})
    now = members(3)
    if what == "shrinks":
        now = members()
        needed = planner.standing.clients[NODES[1]].memory.total_bytes if planner.standing else 0
        smaller = replace(SLOW, memory_bytes=0.9 * needed)
        now[NODES[1]] = replace(now[NODES[1]], profile=smaller)
    plan = planner.plan_round(now, {})
    assert planner.decision.replan
    assert str(NODES[2] if what == "joins" else NODES[1]) in planner.decision.reason
    for node, part in plan.clients.items():
        assert part.memory.total_bytes <= now[node].profile.memory_bytes


def test_budgets_hold_while_the_global_update_grows() -> None:
    planner = planner_of(settings=PlanSettings(max_rank=6), fleet="0.45,0.6")
    names = [weight.name for weight in planner.costs.weights]
    for rank in (0, 4, 8, 16):
        plan = planner.plan_round(members(), dict.fromkeys(names, rank))
        for node, part in plan.clients.items():
            assert part.memory.total_bytes <= planner.devices[node].memory_bytes, f"rank {rank}"


def test_a_session_rank_bounds_what_a_client_has_on_the_worker() -> None:
    sums = []
    for session_rank in (1, 3, None):
        planner = planner_of(settings=PlanSettings(max_rank=6), session_rank=session_rank)
        planner.plan_round(members(), {})
        sums.append(sum(ranks_above(planner, "self_attn.q_proj")))
    assert sums == [2, 6, 12]


def test_evaluation_uses_the_standing_cuts_and_leaves_out_who_does_not_fit() -> None:
    planner = planner_of(settings=PlanSettings(max_rank=6), fleet="0.01,1.2")
    everybody = set(NODES[:2])
    before = planner.parts_for_evaluation(everybody)
    assert {node: part.cut for node, part in before.items()} == dict.fromkeys(everybody, 1)
    plan = planner.plan_round(members(), {})
    assert set(plan.left_out) == {NODES[0]}
    parts = planner.parts_for_evaluation([*everybody, 99])
    assert set(parts) == {NODES[1], 99}
    assert parts[NODES[1]].cut == plan.clients[NODES[1]].cut > 1
    assert parts[99].cut == 1
    assert not any(part.ranks for part in parts.values())


def exceed(planner: RoundPlanner, node: int, *, times: float) -> None:
    """Tell the planner that a client needed so many times its prediction."""
    assert planner.standing is not None
    predicted = planner.standing.clients[node].memory.total_bytes
    planner.correct(
        node,
        OutOfBudgetError(
            predicted_bytes=predicted, measured_bytes=times * predicted, budget_bytes=predicted
        ),
    )


def test_corrections_that_leave_nobody_leave_out_the_round_and_not_the_run() -> None:
    planner = planner_of(settings=PlanSettings(max_rank=6), fleet="0.45,0.6")
    first = planner.plan_round(members(), {})
    for node in first.clients:
        exceed(planner, node, times=9.0)
    plan = planner.plan_round(members(), {}, 2)
    assert not plan.clients
    assert set(plan.left_out) == set(NODES[:2])
    assert not planner.decision.replan
    for node, shortfall in plan.left_out.items():
        own = planner.devices[node].memory_bytes
        assert shortfall.budget_bytes == own
        assert shortfall.lacking_bytes == pytest.approx(shortfall.needed_bytes - own / 9.0)
        told = f"client {node} has {size_text(own)} (planned for 1/9.00 of it), needs"
        assert told in planner.decision.reason
    assert not planner.parts_for_evaluation(NODES[:2]), "nobody is asked to evaluate either"


def test_a_run_begins_when_those_are_back_that_fit() -> None:
    away = Disturbances(unavailable=(0.5, 0.0), seed=7)
    there = [away.is_available(0, server_round) for server_round in (1, 2, 3)]
    assert there == [False, True, False]
    planner = planner_of(fleet="1.0,0.01", disturbances=away)
    served = [
        planner.plan_round(members(), {}, number).clients.keys() - planner.away
        for number in (1, 2, 3)
    ]
    assert served == [set(), {NODES[0]}, set()]


def test_a_fleet_of_which_nobody_fits_is_refused_whoever_is_away() -> None:
    away = Disturbances(unavailable=(1.0, 0.0))
    planner = planner_of(fleet="0.01,0.01", disturbances=away)
    with pytest.raises(InfeasibleBudgetError, match="no client holds the smallest cut"):
        planner.plan_round(members(), {})


def test_a_worker_that_is_too_small_for_who_joins_leaves_out_the_round() -> None:
    planner = planner_of(settings=PlanSettings(max_rank=6))
    planner.plan_round(members(), {})
    planner.meet_worker(replace(WORKER, memory_bytes=1.0))
    has = size_text(worker_half_bytes(planner.costs, planner.settings) + 1.0)
    assert not planner.plan_round(members(3), {}).clients
    assert f"split worker has {has} and needs" in planner.decision.reason


def _clock(planner: RoundPlanner, plan: Plan, num_batch_tokens: int) -> RoundClock:
    part = plan.clients[NODES[0]]
    return planner.simulated(
        {NODES[0]: ClientReport(plan=part, num_steps=4, num_batch_tokens=num_batch_tokens)}
    )


def test_the_clock_goes_by_the_tokens_that_there_were() -> None:
    planner = planner_of()
    plan = planner.plan_round(members(), {})
    for length in (2, 5, 9):
        # As if batches of this length had been planned for.
        other = planner_of(training=replace(TRAINING, sequence_length=length))
        other.plan_round(members(), {})
        wanted = _clock(other, plan, 4 * 3 * length)
        got = _clock(planner, plan, 4 * 3 * length)
        assert got.seconds == pytest.approx(wanted.seconds, rel=1e-9)
        assert astuple(got.clients[NODES[0]]) == pytest.approx(
            astuple(wanted.clients[NODES[0]]), rel=1e-9, abs=1e-12
        )
    assert planner.costs.workload.sequence_length == 9, "plans are made for the longest"


@pytest.mark.parametrize("lie", [-7, 0, 10**300])
def test_a_lie_about_tokens_does_not_leave_what_was_planned_for(lie: int) -> None:
    planner = planner_of()
    plan = planner.plan_round(members(), {})
    longest = _clock(planner, plan, 4 * 3 * 9)
    got = _clock(planner, plan, lie)
    assert 0.0 <= got.seconds <= longest.seconds
    assert (got == longest) == (lie > 0)


def test_rounds_with_real_clients_plan_anew_once(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports: list[RoundReport] = []
    settings: Mapping[str, Any] = {"memory-gb": 1.0, "flops": 1e6}
    strategy = HSplitLoRA(
        model,
        TRAINING,
        planning=TIGHT,
        replanning=ReplanSettings(cooldown_rounds=2),
        worker=worker,
        observer=reports.append,
        fraction_evaluate=0.0,
    )
    with LocalGrid(client_app(), node_configs(**settings)) as grid:
        strategy.start(grid, num_rounds=4)
    assert [report.replanned for report in reports] == [True, False, True, False]
    assert "stands for 2" in reports[1].planning_reason
    assert "the new plan promises +" in reports[2].planning_reason
    first, third = (reports[i].clients[NODES[0]].plan.ranks for i in (0, 2))
    assert first != third
    assert any("Planned anew: importance drifted" in line for line in flower_log)
    assert any("The plan stands: importance drifted" in line for line in flower_log)
