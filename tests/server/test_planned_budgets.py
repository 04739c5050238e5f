"""Plans keep to budgets round after round; where nobody fits, a round is left out."""

from dataclasses import replace

import pytest

from hsplit_flower.costs import worker_half_bytes
from hsplit_flower.errors import InfeasibleBudgetError
from hsplit_flower.settings import Planning, Simulation
from hsplit_flower.simulation.disturbances import Disturbances
from hsplit_flower.sizes import size_text
from tests.server.rounds import ROOMY, TRAINING, WORKER, Rounds, clients
from tests.strategies.clients import NODES


def test_budgets_hold_while_the_global_update_grows() -> None:
    rounds = Rounds(planning=ROOMY, simulation=Simulation(fleet="0.45,0.6"))
    for rank in (0, 4, 8, 16):
        rounds.grow(rank)
        plan = rounds.plan(clients())
        for node, part in plan.clients.items():
            own = rounds.devices.profiles[node].memory_bytes
            assert part.memory.total_bytes <= own, f"rank {rank}"


def test_a_session_rank_bounds_what_a_client_has_on_the_worker() -> None:
    sums = []
    for session_rank in (1, 3, 0):
        rounds = Rounds(planning=Planning(max_rank=6, worker_session_rank=session_rank))
        rounds.plan(clients())
        sums.append(sum(rounds.ranks_above("self_attn.q_proj")))
    assert sums == [2, 6, 12]


def test_evaluation_uses_the_standing_cuts_and_leaves_out_who_does_not_fit() -> None:
    rounds = Rounds(planning=ROOMY, simulation=Simulation(fleet="0.01,1.2"))
    everybody = set(NODES[:2])
    before = rounds.parts_for_evaluation(everybody)
    assert {node: part.cut for node, part in before.items()} == dict.fromkeys(everybody, 1)
    plan = rounds.plan(clients())
    assert set(plan.left_out) == {NODES[0]}
    parts = rounds.parts_for_evaluation([*everybody, 99])
    assert set(parts) == {NODES[1], 99}
    assert parts[NODES[1]].cut == plan.clients[NODES[1]].cut > 1
    assert parts[99].cut == 1
    assert not any(part.ranks for part in parts.values())


def test_corrections_that_leave_nobody_leave_out_the_round_and_not_the_run() -> None:
    rounds = Rounds(planning=ROOMY, simulation=Simulation(fleet="0.45,0.6"))
    first = rounds.plan(clients())
    for node in first.clients:
        rounds.exceed(node, times=9.0)
    plan = rounds.plan(clients(), 2)
    assert not plan.clients
    assert set(plan.left_out) == set(NODES[:2])
    assert not rounds.decision.replan
    for node, shortfall in plan.left_out.items():
        own = rounds.devices.profiles[node].memory_bytes
        assert shortfall.budget_bytes == own
        assert shortfall.lacking_bytes == pytest.approx(shortfall.needed_bytes - own / 9.0)
        told = f"client {node} has {size_text(own)} (planned for 1/9.00 of it), needs"
        assert told in rounds.decision.reason
    assert not rounds.parts_for_evaluation(NODES[:2]), "nobody is asked to evaluate either"


def test_a_run_begins_when_those_are_back_that_fit() -> None:
    away = Disturbances(unavailable=(0.5, 0.0), seed=7)
    there = [away.is_available(0, server_round) for server_round in (1, 2, 3)]
    assert there == [False, True, False]
    rounds = Rounds(
        training=TRAINING.replace(seed=7),
        simulation=Simulation(fleet="1.0,0.01", unavailable=away.unavailable),
    )
    served = [
        rounds.plan(clients(), number).clients.keys() - rounds.devices.away for number in (1, 2, 3)
    ]
    assert served == [set(), {NODES[0]}, set()]


def test_a_fleet_of_which_nobody_fits_is_refused_whoever_is_away() -> None:
    rounds = Rounds(simulation=Simulation(fleet="0.01,0.01", unavailable=(1.0, 0.0)))
    with pytest.raises(InfeasibleBudgetError, match="no client holds the smallest cut"):
        rounds.plan(clients())


def test_a_worker_that_is_too_small_for_who_joins_leaves_out_the_round() -> None:
    rounds = Rounds(planning=ROOMY)
    rounds.plan(clients())
    rounds.meet_worker(replace(WORKER, memory_bytes=1.0))
    has = size_text(worker_half_bytes(rounds.planner.costs, rounds.planner.settings) + 1.0)
    assert not rounds.plan(clients(3)).clients
    assert f"split worker has {has} and needs" in rounds.decision.reason
