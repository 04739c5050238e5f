"""What a plan says that a run will send, against what real clients have sent."""

import math
from collections.abc import Mapping

from hsplit_flower.cli.run_outlook import Outlooks
from hsplit_flower.server import RoundReport
from hsplit_flower.settings import Aggregation
from hsplit_flower.types import DeviceProfile, Plan
from tests.strategies.clients import NUM_STEPS, WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of

NUM_ROUNDS = 3
# Names, shapes, the digest of the base and the envelope of each array and message, which are not
# counted.
ARRAY_BYTES, MESSAGE_BYTES = 150, 5000


def test_bytes_are_as_planned(model: str, worker: WatchedWorker) -> None:
    reports: list[RoundReport] = []
    held: list[Mapping[str, int]] = [{}]

    def observe(report: RoundReport) -> None:
        reports.append(report)
        held.append({name: own.rank for name, own in strategy.adapter.updates.items()})

    strategy = strategy_of(model, worker=worker, observer=observe)
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=NUM_ROUNDS)
    outlooks = Outlooks(
        costs=strategy.planner.costs,
        settings=strategy.planner.settings,
        aggregation=Aggregation(),
        profiles={},
        worker=DeviceProfile(memory_bytes=math.inf, flops_per_second=1.0),
        num_rounds=NUM_ROUNDS,
        num_steps=NUM_STEPS,
    )
    parts = {node: client.plan for node, client in reports[0].clients.items()}
    most = outlooks.last_ranks(Plan(clients=parts, left_out={}, step_seconds=0.0))
    for report, ranks in zip(reports, held, strict=False):
        assert all(rank <= most.get(name, 0) for name, rank in ranks.items())
        for client in report.clients.values():
            planned = outlooks.traffic(client.plan, ranks)
            of_arrays = 2 * len(client.plan.ranks) * ARRAY_BYTES + MESSAGE_BYTES
            of_steps = NUM_STEPS * MESSAGE_BYTES
            assert 0 <= client.flower_up_bytes - planned.flower_up_bytes <= of_arrays
            assert 0 <= client.flower_down_bytes - planned.flower_down_bytes <= of_arrays
            assert 0 <= client.traffic.up_bytes - planned.worker_up_bytes <= of_steps
            assert 0 <= client.traffic.down_bytes - planned.worker_down_bytes <= of_steps
