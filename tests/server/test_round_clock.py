"""How long a round would have taken on the devices that it was planned for."""

from dataclasses import astuple

import pytest

from hsplit_flower.server import ClientReport
from hsplit_flower.server.round_clock import FleetClock
from hsplit_flower.simulation.clock import RoundClock
from hsplit_flower.types import Plan
from tests.families import FAMILIES
from tests.server.rounds import TRAINING, Rounds, clients
from tests.strategies.clients import NODES


def _clock(rounds: Rounds, plan: Plan, num_batch_tokens: int) -> RoundClock:
    part = plan.clients[NODES[0]]
    clock = FleetClock(FAMILIES["llama"].config(), rounds.planner.costs, rounds.planner.settings)
    return clock.round(
        {NODES[0]: ClientReport(plan=part, num_steps=4, num_batch_tokens=num_batch_tokens)},
        devices=rounds.devices.profiles,
        worker=rounds.worker,
        update_ranks=rounds.state.method.ranks,
    )


@pytest.mark.long
def test_the_clock_goes_by_the_tokens_that_there_were() -> None:
    rounds = Rounds()
    plan = rounds.plan(clients())
    for length in (2, 5, 9):
        # As if batches of this length had been planned for.
        other = Rounds(training=TRAINING.replace(sequence_length=length))
        other.plan(clients())
        wanted = _clock(other, plan, 4 * 3 * length)
        got = _clock(rounds, plan, 4 * 3 * length)
        assert got.seconds == pytest.approx(wanted.seconds, rel=1e-9)
        assert astuple(got.clients[NODES[0]]) == pytest.approx(
            astuple(wanted.clients[NODES[0]]), rel=1e-9, abs=1e-12
        )
    assert rounds.planner.costs.workload.sequence_length == 9, "plans are made for the longest"


@pytest.mark.parametrize("lie", [-7, 0, 10**300])
def test_a_lie_about_tokens_does_not_leave_what_was_planned_for(lie: int) -> None:
    rounds = Rounds()
    plan = rounds.plan(clients())
    longest = _clock(rounds, plan, 4 * 3 * 9)
    got = _clock(rounds, plan, lie)
    assert 0.0 <= got.seconds <= longest.seconds
    assert (got == longest) == (lie > 0)
