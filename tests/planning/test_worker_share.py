"""The worker's memory and time, and who of the clients takes what of them."""

import math

import pytest

from hsplit_flower.costs import ModelCosts, Workload, trace_costs, whole_model_memory
from hsplit_flower.errors import ConfigError, InfeasibleBudgetError
from hsplit_flower.planning import plan, session_need_bytes
from hsplit_flower.planning.tables import Tables
from hsplit_flower.settings import PlanSettings
from hsplit_flower.types import DeviceProfile
from tests.families import FAMILIES

ROOM = 1e15
COSTS = trace_costs(
    FAMILIES["llama"].config(), Workload(batch_size=3, sequence_length=8, attention="eager")
)


def device(memory_bytes: float, flops: float = 1e9) -> DeviceProfile:
    return DeviceProfile(memory_bytes=memory_bytes, flops_per_second=flops)


def need_bytes(costs: ModelCosts, *, num_sessions: int, rank: int) -> float:
    """What a worker needs to give every session this rank on all weights, at the smallest cut."""
    settings = PlanSettings()
    tables = Tables(costs=costs, settings=settings, update_ranks={}, importance=None)
    cut = settings.min_cut
    return tables.worker_base_bytes[cut] + num_sessions * (
        tables.session_waiting_bytes[cut] + session_need_bytes(costs, rank=rank, settings=settings)
    )


def test_a_worker_that_is_too_small_is_named() -> None:
    with pytest.raises(InfeasibleBudgetError, match=r"split worker has 1 kB and needs .* lacks"):
        plan(COSTS, {0: device(ROOM)}, device(1000.0))


def test_worker_need_is_enough_for_that_rank() -> None:
    costs = COSTS
    worker = device(need_bytes(costs, num_sessions=3, rank=4), 1e15)
    slow_link = {client: device(ROOM, 1.0) for client in range(3)}
    made = plan(costs, slow_link, worker, settings=PlanSettings(makespan_slack=0.0))
    for part in made.clients.values():
        assert part.cut == 1
        assert min(part.ranks.values()) == 4


def test_those_who_sit_a_round_out_do_not_load_the_worker() -> None:
    """Planned for all, but sampled ten at a time: as if there were only ten."""
    costs = COSTS
    whole = whole_model_memory(costs, rank=16).total_bytes
    ten, hundred = ({n: device(0.8 * whole, 1e9) for n in range(count)} for count in (10, 100))
    worker = device(need_bytes(costs, num_sessions=10, rank=4), 1e10)
    few = plan(costs, ten, worker)
    with pytest.raises(InfeasibleBudgetError, match="split worker has"):
        plan(costs, hundred, worker)
    sampled = plan(costs, hundred, worker, settings=PlanSettings(round_share=0.1))
    parts = {(part.cut, tuple(part.ranks.items())) for part in sampled.clients.values()}
    assert {(part.cut, tuple(part.ranks.items())) for part in few.clients.values()} == parts
    assert sampled.step_seconds == pytest.approx(few.step_seconds)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, math.nan])
def test_no_round_has_such_a_share_of_the_clients(share: float) -> None:
    with pytest.raises(ConfigError, match="round_share must be above 0 and at most 1"):
        PlanSettings(round_share=share)
