"""Clients that lie about what they have learnt: named, and the round is as without them."""

from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, Context, Message

from hsplit_flower.client.app import split_train
from hsplit_flower.server import RoundReport
from hsplit_flower.strategies import HSplitLoRA, SplitLoRA
from hsplit_flower.wire.instructions import PROFILE_KEY, UPDATE_KEY
from tests.reference.aggregation import dense
from tests.strategies.bad_client import BAD, BAD_NODE, strategy_of
from tests.strategies.clients import NAMES, Batches, Train, WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid

NUM_ROUNDS = 3


def multiplied(times: float) -> Train:
    """Train as one should, and send another multiple of it."""

    def train(msg: Message, context: Context, some: Batches) -> Message:
        reply = split_train(msg, context, some)
        state = reply.content.array_records[UPDATE_KEY].to_torch_state_dict()
        lie = {k: v * times if k.endswith("lora_A.weight") else v for k, v in state.items()}
        reply.content[UPDATE_KEY] = ArrayRecord(lie)
        return reply

    return train


def learnt(
    model: str, worker: WatchedWorker, faults: dict[int, Train], **settings: Any
) -> tuple[dict[str, torch.Tensor], list[RoundReport]]:
    """What three rounds come to, as matrices, and a report of each."""
    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker, observer=reports.append, **settings)
    nodes = node_configs()
    if not faults:
        del nodes[BAD_NODE]
    with LocalGrid(client_app(faults=faults), nodes) as grid:
        strategy.start(grid, num_rounds=NUM_ROUNDS)
    return {name: dense(total) for name, total in strategy.adapter.exact_updates().items()}, reports


@pytest.mark.parametrize("method", [HSplitLoRA, SplitLoRA])
@pytest.mark.one_in(2)
def test_one_of_three_that_sends_thirty_times_its_factors_is_left_out_by_name(
    model: str, worker: WatchedWorker, flower_log: list[str], method: Any
) -> None:
    # One budget for all, so that a plan without the liar is the same.
    how: dict[str, Any] = {"method": method, "fleet": "1,1,1"}
    with_liar, reports = learnt(model, worker, {BAD: multiplied(-30.0)}, **how)
    for report in reports:
        told = report.clients[BAD_NODE]
        assert told.dropped is not None and "times the median" in told.dropped
        assert report.completed
        assert told.proportion.multiple > 10
    assert sum(NAMES[BAD_NODE] in line and "left out" in line for line in flower_log) == NUM_ROUNDS
    if method is HSplitLoRA:
        without, _ = learnt(model, worker, {}, **how)
        for name, matrix in without.items():
            torch.testing.assert_close(with_liar[name], matrix, rtol=1e-4, atol=1e-7)


def test_between_both_bounds_it_is_shortened_by_name(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    _, reports = learnt(model, worker, {BAD: multiplied(-6.0)}, refuse_above=0.0)
    for report in reports:
        line = report.record().to_dict()["clients"][NAMES[BAD_NODE]]
        assert line["dropped"] is None
        assert line["num-shortened"] > 0
        assert line["least-kept"] == pytest.approx(2 / line["times-the-median"])
        assert line["times-the-median"] > 2
    told = [line for line in flower_log if NAMES[BAD_NODE] in line and "SHORTENED" in line]
    assert len(told) == NUM_ROUNDS


def test_honest_unequal_clients_are_used_as_they_are(model: str, worker: WatchedWorker) -> None:
    _, reports = learnt(model, worker, {5: split_train}, fleet="0.35,0.6,1")
    for report in reports:
        for client in report.clients.values():
            assert (client.dropped, client.proportion.kept) == (None, {})
            assert client.counted_examples == client.num_examples


def test_a_claim_of_more_examples_than_anybody_has_counts_as_a_few(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker, observer=reports.append)
    app = client_app()

    def boast(message: Message, context: Context) -> Message:
        reply = app(message, context)
        if message.metadata.message_type == "query" and context.node_id == BAD_NODE:
            reply.content.config_records[PROFILE_KEY]["num-examples"] = 2**40
        return reply

    with LocalGrid(boast, node_configs()) as grid:  # type: ignore[arg-type]
        strategy.start(grid, num_rounds=1)
    (report,) = reports
    told = report.clients[BAD_NODE]
    assert (told.num_examples, told.counted_examples) == (2**40, 100)
    assert any(NAMES[BAD_NODE] in line and "counts as 100" in line for line in flower_log)


@pytest.mark.parametrize("selection", ["krum", "multi-krum"])
@pytest.mark.one_in(2)
def test_krum_leaves_out_who_is_far_from_the_others(
    model: str, worker: WatchedWorker, flower_log: list[str], selection: str
) -> None:
    _, reports = learnt(
        model,
        worker,
        {BAD: multiplied(-3.0)},
        selection=selection,
        refuse_above=0.0,
        num_malicious_nodes=1,
    )
    count = 1 if selection == "krum" else 2
    for report in reports:
        assert not report.clients[BAD_NODE].is_selected
        assert sum(client.is_selected for client in report.clients.values()) == count
    assert any("for 5 clients or more" in line for line in flower_log)


@pytest.mark.long
def test_nothing_is_compared_where_that_is_off(model: str, worker: WatchedWorker) -> None:
    how = {"clip_above": 0.0, "refuse_above": 0.0}
    spoilt, reports = learnt(model, worker, {BAD: multiplied(-30.0)}, **how)
    assert not [c for r in reports for c in r.clients.values() if c.dropped or c.proportion.kept]
    fair, _ = learnt(model, worker, {})
    name = max(spoilt, key=lambda each: float(spoilt[each].norm()))
    assert float(spoilt[name].norm()) > 5 * float(fair[name].norm())
