"""When a standing plan is given up, told by what the planner does and says."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from hsplit_flower.importance import ImportanceReport
from hsplit_flower.planning import PlanSettings, ReplanSettings
from hsplit_flower.splitting import read_architecture
from hsplit_flower.strategies import HSplitLoRA, RoundReport, Training
from hsplit_flower.strategies.roster import Member
from hsplit_flower.strategies.round_planner import RoundPlanner
from hsplit_flower.types import DeviceProfile, WorkerDescription
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
) -> RoundPlanner:
    config = FAMILIES["llama"].config()
    made = RoundPlanner(
        config, read_architecture(config), TRAINING, settings, replanning, fleet, session_rank
    )
    made.meet_worker(WORKER)
    return made


def members(count: int = 2, profile: DeviceProfile = SLOW) -> dict[int, Member]:
    return {
        NODES[i]: Member(profile=profile, num_examples=5, partition=i, num_partitions=count)
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
