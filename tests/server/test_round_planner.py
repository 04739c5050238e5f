"""When a standing plan is given up, told by what the planner does and says."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from hsplit_flower.costs import worker_half_bytes
from hsplit_flower.errors import InfeasibleBudgetError
from hsplit_flower.planning.tables import Tables
from hsplit_flower.server import RoundReport
from hsplit_flower.settings import Sampling
from hsplit_flower.strategies import HSplitLoRA
from tests.server.rounds import ROOMY, SLOW, TIGHT, TRAINING, WORKER, Rounds, clients
from tests.strategies.clients import NODES, WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid


def test_the_worker_has_what_it_says_beside_its_half() -> None:
    rounds = Rounds()
    tables = Tables(
        costs=rounds.planner.costs,
        settings=rounds.planner.settings,
        update_ranks={},
        importance=None,
    )
    deepest = rounds.planner.costs.num_blocks - 1
    sessions = tables.worker_base_bytes[deepest] + 2 * tables.session_bytes[deepest]
    beside = sessions - worker_half_bytes(rounds.planner.costs, rounds.planner.settings)
    rounds.meet_worker(replace(WORKER, memory_bytes=0.999 * beside))
    with pytest.raises(InfeasibleBudgetError, match="the split worker has"):
        rounds.plan(clients())
    rounds.meet_worker(replace(WORKER, memory_bytes=1.001 * beside))
    assert {part.cut for part in rounds.plan(clients()).clients.values()} == {deepest}


def test_the_first_round_has_a_plan_without_any_importance() -> None:
    rounds = Rounds()
    plan = rounds.plan(clients())
    assert (rounds.decision.replan, rounds.decision.reason) == (True, "the first round")
    assert set(plan.clients) == set(NODES[:2])
    assert len(set(rounds.ranks_above("mlp.up_proj"))) == 1


def test_drift_gives_the_budget_to_what_matters_now() -> None:
    rounds = Rounds(planning=TIGHT.replace(cooldown_rounds=0))
    rounds.plan(clients())
    before = rounds.ranks_above("self_attn.v_proj")
    rounds.learn("self_attn.v_proj")
    rounds.plan(clients())
    assert rounds.decision.replan
    assert rounds.drift > 0.1
    assert "importance drifted by" in rounds.decision.reason
    assert sum(rounds.ranks_above("self_attn.v_proj")) > sum(before)


def test_the_same_importance_again_changes_nothing() -> None:
    rounds = Rounds(planning=TIGHT.replace(cooldown_rounds=0))
    rounds.plan(clients())
    rounds.learn("self_attn.v_proj")
    standing = rounds.plan(clients())
    for _ in range(3):
        rounds.learn("self_attn.v_proj")
        assert rounds.plan(clients()) is standing
        assert not rounds.decision.replan
        assert rounds.drift == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("cooldown", [0, 1, 2, 3])
def test_not_within_the_cooldown(cooldown: int) -> None:
    rounds = Rounds(planning=TIGHT.replace(cooldown_rounds=cooldown))
    rounds.plan(clients())
    rounds.learn("self_attn.v_proj")
    replanned, reasons = [], []
    for _ in range(4):
        rounds.plan(clients())
        replanned.append(rounds.decision.replan)
        reasons.append(rounds.decision.reason)
    first = max(0, cooldown - 1)
    assert replanned.index(True) == first
    assert all(f"stands for {cooldown}" in reason for reason in reasons[:first])
    assert replanned.count(True) == 1, "the new plan was made from today's importance"


def test_not_below_the_threshold() -> None:
    rounds = Rounds(planning=TIGHT.replace(cooldown_rounds=0, drift_threshold=0.99))
    rounds.plan(clients())
    rounds.learn("self_attn.v_proj")
    rounds.plan(clients())
    assert not rounds.decision.replan
    assert "<= 0.99" in rounds.decision.reason


def test_not_for_a_plan_that_is_hardly_better() -> None:
    rounds = Rounds(planning=ROOMY.replace(cooldown_rounds=0))
    rounds.plan(clients())
    rounds.learn("self_attn.v_proj")
    rounds.plan(clients())
    assert not rounds.decision.replan
    assert "promises +0.0%" in rounds.decision.reason


@pytest.mark.parametrize("what", ["joins", "shrinks"])
def test_who_cannot_be_served_is_planned_for_at_once(what: str) -> None:
    rounds = Rounds(planning=TIGHT.replace(cooldown_rounds=9))
    rounds.plan(clients())
    now = clients(3)
    if what == "shrinks":
        now = clients()
        needed = rounds.standing.clients[NODES[1]].memory.total_bytes
        smaller = replace(SLOW, memory_bytes=0.9 * needed)
        now[NODES[1]] = replace(now[NODES[1]], profile=smaller)
    plan = rounds.plan(now)
    assert rounds.decision.replan
    assert str(NODES[2] if what == "joins" else NODES[1]) in rounds.decision.reason
    for node, part in plan.clients.items():
        assert part.memory.total_bytes <= now[node].profile.memory_bytes


@pytest.mark.long
def test_rounds_with_real_clients_plan_anew_once(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports: list[RoundReport] = []
    settings: Mapping[str, Any] = {"memory-gb": 1.0, "flops": 1e6}
    strategy = HSplitLoRA(
        model,
        TRAINING,
        planning=TIGHT.replace(cooldown_rounds=2),
        running_worker=worker,
        observer=reports.append,
        sampling=Sampling(fraction_evaluate=0.0),
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
