"""Models whose blocks differ: every kind is traced, and each block has the costs of its own."""

from dataclasses import replace

import pytest
from transformers import PretrainedConfig

from benchmarks.tools.client_run import ClientRun, live_peak_bytes
from benchmarks.tools.memory_comparison import predicted_bytes
from hsplit_flower.costs import (
    ModelCosts,
    Workload,
    client_memory,
    client_seconds,
    trace_costs,
    worker_seconds,
)
from hsplit_flower.planning import plan
from hsplit_flower.settings import PlanSettings
from hsplit_flower.types import DeviceProfile, Labels
from tests.costs.real_step import measure_client
from tests.families import FAMILIES, shrunk

RANK = 3
LOAD = Workload(batch_size=3, sequence_length=10)
DEVICE = DeviceProfile(memory_bytes=1e9, flops_per_second=1.0)


def hybrid() -> PretrainedConfig:
    """Two convolutions, then attention."""
    config = shrunk("lfm2")
    config.layer_types = ["conv", "conv", "full_attention"]
    return config


def _kept_by(costs: ModelCosts, block: int) -> float:
    paths = [costs.path_in_block(weight) for weight in costs.weights if weight.block == block]
    one = costs.passes[block]
    products = RANK * len(paths) * costs.adapter_activation_bytes_per_rank
    return one.saved_bytes + one.adapter_inputs(paths).total_bytes + products


def test_blocks_that_are_alike_are_traced_once() -> None:
    costs = trace_costs(FAMILIES["llama"].config(), LOAD)
    assert all(one is costs.passes[0] for one in costs.passes)


def test_each_block_keeps_what_a_real_one_of_its_kind_keeps() -> None:
    config = shrunk("lfm2")
    config.layer_types = ["conv", "conv", "conv", "full_attention", "full_attention"]
    config.num_hidden_layers = 5
    costs = trace_costs(config, LOAD)
    assert costs.passes[2] is costs.passes[0]
    assert costs.passes[4] is costs.passes[3] is not costs.passes[0]
    ranks = {weight.name: RANK for weight in costs.weights}
    for block in (2, 4):
        # The first of each kind that needs gradients keeps the mask, for all of them.
        before, after = (
            measure_client(config, LOAD, cut=cut, ranks=ranks).saved_bytes
            for cut in (block, block + 1)
        )
        assert after - before == _kept_by(costs, block)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_round_takes_what_is_predicted(checkpointing: bool) -> None:
    load = Workload(batch_size=4, sequence_length=64)
    costs = trace_costs(hybrid(), load)
    for cut in (2, 3):
        run = ClientRun(
            config=hybrid(),
            workload=load,
            cut=cut,
            ranks={weight.name: RANK for weight in costs.weights},
            checkpointing=checkpointing,
        )
        assert predicted_bytes(run, costs) == pytest.approx(live_peak_bytes(run), rel=0.1)


def test_seconds_are_those_of_the_blocks_on_each_side() -> None:
    costs = trace_costs(hybrid(), LOAD)
    ask = {"labels": Labels.SERVER}
    below = [client_seconds(costs, cut=cut, profile=DEVICE, **ask) for cut in range(4)]
    above = [worker_seconds(costs, cut=cut, worker=DEVICE, **ask) for cut in range(4)]
    for cut, one in enumerate(costs.passes):
        assert below[cut + 1] - below[cut] == pytest.approx(one.flops)
        assert above[cut] - above[cut + 1] == pytest.approx(one.flops)


def test_a_plan_is_within_budgets_at_every_kind() -> None:
    costs = trace_costs(hybrid(), Workload(batch_size=4, sequence_length=64))
    settings = PlanSettings(max_cut=3)
    lowest = dict.fromkeys((weight.name for weight in costs.weights), settings.rank_unit)
    needed = [
        client_memory(costs, cut=cut, ranks=lowest, settings=settings).total_bytes
        for cut in (1, 2, 3)
    ]
    assert needed[2] - needed[1] != pytest.approx(needed[1] - needed[0], rel=0.05)
    fleet = {cut: replace(DEVICE, memory_bytes=1.05 * needed[cut - 1]) for cut in (1, 2, 3)}
    made = plan(costs, fleet, replace(DEVICE, memory_bytes=1e9), settings=settings)
    assert made.clients.keys() == fleet.keys()
    for client, part in made.clients.items():
        peak = client_memory(
            costs,
            cut=part.cut,
            ranks=part.ranks,
            settings=settings,
            checkpointing=part.checkpointing,
        )
        assert peak.total_bytes <= fleet[client].memory_bytes


def test_each_kind_has_a_mask_of_its_own() -> None:
    """Who runs blocks again holds both."""
    sliding = FAMILIES["qwen2"].config()
    full = FAMILIES["qwen2"].config()
    full.layer_types = ["full_attention"] * 3
    ours, others = (trace_costs(config, LOAD) for config in (sliding, full))
    mask = LOAD.batch_size * LOAD.sequence_length**2
    assert ours.given_bytes == others.given_bytes + mask
    assert ours.passes[0].saved_bytes == ours.passes[1].saved_bytes
