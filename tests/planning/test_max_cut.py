"""How deep a cut may be: no client holds the whole model."""

import math

import pytest

from hsplit_flower.costs import Workload, trace_costs
from hsplit_flower.errors import ConfigError
from hsplit_flower.planning import plan
from hsplit_flower.settings import PlanSettings
from hsplit_flower.types import DeviceProfile
from tests.families import FAMILIES

ROOMY = DeviceProfile(memory_bytes=1e15, flops_per_second=1e9, up_bytes_per_second=math.inf)
SLOW_WORKER = DeviceProfile(memory_bytes=1e15, flops_per_second=1e3)


@pytest.mark.parametrize(("max_cut", "wanted"), [(None, -1), (1, 1), (99, 0)])
def test_a_client_leaves_a_block_to_the_worker_unless_told_otherwise(
    max_cut: int | None, wanted: int
) -> None:
    workload = Workload(batch_size=3, sequence_length=8, dtype_bytes=4, attention="eager")
    costs = trace_costs(FAMILIES["llama"].config(), workload)
    chosen = plan(costs, {1: ROOMY}, SLOW_WORKER, settings=PlanSettings(max_cut=max_cut))
    assert chosen.clients[1].cut == (wanted if wanted > 0 else costs.num_blocks + wanted)


def test_a_deepest_cut_below_the_smallest_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_cut must be min_cut \(2\) or more, got 1"):
        PlanSettings(min_cut=2, max_cut=1)
