"""Seconds and wire bytes by hand."""

from dataclasses import astuple, replace

import pytest

from hsplit_flower.costs import (
    ModelCosts,
    PartSeconds,
    PassCosts,
    Workload,
    adapter_flops,
    client_seconds,
    link_seconds,
    part_seconds,
    seconds_at,
    trace_costs,
    wire_bytes,
    worker_seconds,
)
from hsplit_flower.settings import PlanSettings
from hsplit_flower.types import ClientPlan, DeviceProfile, Labels, Span, Start, Weight
from tests.families import FAMILIES

COSTS = ModelCosts(
    workload=Workload(batch_size=2, sequence_length=5),
    model_type="made-up",
    blocks="layers",
    weights=(),
    entry_bytes=0.0,
    exit_bytes=0.0,
    tied_bytes=0.0,
    block_bytes=(1.0,) * 4,
    passes=(PassCosts(saved_bytes=0.0, working_bytes=0.0, forward_flops=10.0, backward_flops=20.0),)
    * 4,
    shared_bytes=0.0,
    head=PassCosts(saved_bytes=0.0, working_bytes=0.0, forward_flops=3.0, backward_flops=3.0),
    hidden_bytes=1000.0,
    wire_hidden_bytes=500.0,
)
DEVICE = DeviceProfile(
    memory_bytes=1.0,
    flops_per_second=6.0,
    up_bytes_per_second=100.0,
    down_bytes_per_second=250.0,
    round_trip_seconds=0.5,
)
LABELS_BYTES, LENGTHS_BYTES = 2 * 5 * 4, 2 * 4


def test_wire_bytes() -> None:
    server = wire_bytes(COSTS, Labels.SERVER)
    assert (server.up_bytes, server.down_bytes) == (500 + LABELS_BYTES + LENGTHS_BYTES, 500)
    client = wire_bytes(COSTS, Labels.CLIENT)
    assert (client.up_bytes, client.down_bytes) == (1000 + LENGTHS_BYTES, 1000)
    assert client.total_bytes == 2000 + LENGTHS_BYTES


def test_link_seconds() -> None:
    assert link_seconds(COSTS, profile=DEVICE, labels=Labels.SERVER) == pytest.approx(
        0.5 + 548 / 100 + 500 / 250
    )
    assert link_seconds(COSTS, profile=DEVICE, labels=Labels.CLIENT) == pytest.approx(
        2 * 0.5 + 1008 / 100 + 1000 / 250
    )


def test_a_link_that_is_not_limited_takes_no_time() -> None:
    local = DeviceProfile(memory_bytes=1.0, flops_per_second=6.0)
    assert link_seconds(COSTS, profile=local, labels=Labels.SERVER) == 0.0


def test_compute_goes_where_the_blocks_and_the_head_are() -> None:
    link = {labels: link_seconds(COSTS, profile=DEVICE, labels=labels) for labels in Labels}
    for labels, head_here, head_there in ((Labels.SERVER, 0, 6), (Labels.CLIENT, 6, 0)):
        here = client_seconds(COSTS, cut=3, profile=DEVICE, labels=labels) - link[labels]
        there = worker_seconds(COSTS, cut=3, worker=DEVICE, labels=labels)
        assert here == pytest.approx((3 * 30 + head_here) / 6)
        assert there == pytest.approx((1 * 30 + head_there) / 6)


def test_higher_ranks_and_a_frozen_update_are_computed_too() -> None:
    one, two = (Weight(name=f"w{b}", block=b, in_features=6, out_features=4) for b in (0, 1))
    costs = replace(COSTS, weights=(one, two))
    below = Span(start=0, stop=1)
    ask = {"span": below, "start": Start.RESTART}
    # 10 tokens, 10 numbers a rank; rank 1 is in the block's own count.
    assert adapter_flops(costs, ranks={"w0": 1, "w1": 9}, **ask) == 0
    assert adapter_flops(costs, ranks={"w0": 3}, **ask) == 2 * 6 * 10 * 10
    assert adapter_flops(costs, ranks={}, **ask) == -6 * 10 * 10
    updates = {"w0": 2, "w1": 2}
    assert adapter_flops(costs, ranks={"w0": 1}, update_ranks=updates, **ask) == 2 * 4 * 10 * 10
    ask["start"] = Start.CONTINUE
    assert adapter_flops(costs, ranks={"w0": 1}, update_ranks=updates, **ask) == 1 * 4 * 10 * 10
    # Of rank 3 the factors are dearer than the matrix: what is trained is taken off it again.
    merged = adapter_flops(costs, ranks={"w0": 1}, update_ranks={"w0": 3}, **ask)
    assert merged == 1 * 4 * 10 * 10
    # Blocks that run forward twice run their adapters twice.
    ask["start"] = Start.RESTART
    once, twice = (
        adapter_flops(costs, ranks={"w0": 3}, update_ranks=updates, checkpointing=again, **ask)
        for again in (False, True)
    )
    assert twice - once == (2 + 2) * 2 * 10 * 10
    extra = client_seconds(costs, cut=1, profile=DEVICE, labels=Labels.SERVER, more_flops=600.0)
    plain = client_seconds(costs, cut=1, profile=DEVICE, labels=Labels.SERVER)
    assert extra - plain == pytest.approx(100.0)


def test_the_seconds_of_a_part_count_adapters_recomputation_and_scoring() -> None:
    weights = tuple(
        Weight(name=f"layers.{block}.w", block=block, in_features=3, out_features=4)
        for block in range(4)
    )
    costs = replace(COSTS, weights=weights)
    worker = DeviceProfile(memory_bytes=1.0, flops_per_second=2.0)
    ranks = dict.fromkeys((weight.name for weight in weights), 3)
    part = ClientPlan(span=Span(start=0, stop=1), ranks=ranks, checkpointing=True)

    def seconds(
        part: ClientPlan, *, scores: bool, recomputes: bool = False
    ) -> tuple[float, float, float]:
        got = part_seconds(
            costs,
            part,
            profile=DEVICE,
            worker=worker,
            settings=PlanSettings(start=Start.RESTART, worker_checkpointing=recomputes),
            scores=scores,
        )
        return got.compute_seconds, got.link_seconds, got.worker_seconds

    # Ten tokens; 7 numbers a rank, 12 a weight; two ranks beyond the one that was traced.
    adapters, again, scoring = 10 * 7 * 6 * 2, 10 * 7 * 2 * 2, 2 * 10 * 12
    link = link_seconds(costs, profile=DEVICE, labels=Labels.SERVER)
    own, above = 10 + again + 30 + adapters, 3 * (30 + adapters) + 6
    assert seconds(part, scores=False) == pytest.approx((own / 6, link, above / 2))
    assert seconds(part, scores=True) == pytest.approx(
        ((own + scoring) / 6, link, (above + 3 * scoring) / 2)
    )
    kept = replace(part, checkpointing=False)
    assert seconds(kept, scores=False)[0] == pytest.approx((own - 10 - again) / 6)
    # The worker's three blocks once more, and their adapters.
    twice = above + 3 * (10 + again)
    assert seconds(part, scores=False, recomputes=True)[2] == pytest.approx(twice / 2)


@pytest.mark.parametrize("labels", Labels)
@pytest.mark.parametrize("family", [pytest.param("llama", marks=pytest.mark.long), "gpt2"])
def test_the_seconds_of_two_lengths_give_those_of_all(family: str, labels: Labels) -> None:
    def seconds(length: int) -> PartSeconds:
        workload = Workload(batch_size=2, sequence_length=length)
        costs = trace_costs(FAMILIES[family].config(), workload)
        ranks = {weight.name: 2 for weight in costs.weights}
        part = ClientPlan(span=Span(start=0, stop=2), ranks=ranks, checkpointing=True)
        worker = DeviceProfile(memory_bytes=1.0, flops_per_second=2.0)
        return part_seconds(
            costs,
            part,
            profile=DEVICE,
            worker=worker,
            settings=PlanSettings(labels=labels, start=Start.RESTART),
            update_ranks=dict.fromkeys(ranks, 1),
            scores=True,
        )

    known = {length: seconds(length) for length in (8, 20)}
    for length in (3, 13, 20):
        wanted = seconds(length)
        assert astuple(seconds_at(length, known)) == pytest.approx(astuple(wanted), rel=1e-9)
        if length < 20:
            # Because of attention a third of the tokens take less than a third of the time.
            assert wanted.compute_seconds < 0.99 * length / 20 * known[20].compute_seconds
