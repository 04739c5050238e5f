"""Budgets over the rounds: enforced, corrected, changed while running, and leased."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, MessageType
from transformers import PretrainedConfig

from hsplit_flower.client.app import split_train
from hsplit_flower.devices.disturbances import Disturbances, budget_changes
from hsplit_flower.errors import ConfigError
from hsplit_flower.planning import ModelCosts, ReplanSettings, Workload
from hsplit_flower.sizes import size_text
from hsplit_flower.strategies import HSplitLoRA, RoundReport, Training, round_planner
from tests.strategies.clients import (
    NODES,
    Batches,
    Train,
    WatchedWorker,
    client_app,
    node_configs,
)
from tests.strategies.local_grid import LocalGrid

FLEET = "0.5,0.7,1.0"
ROWS, SEQUENCE = 3, 9
CLOCK_PARTS = ("compute", "link", "worker", "waiting")
FIRST, SECOND, THIRD = NODES

Before = Callable[[Message], None]


def _run(
    model: str,
    worker: WatchedWorker,
    *,
    rounds: int,
    predicted_rows: int = ROWS,
    nodes: dict[int, dict[str, Any]] | None = None,
    before: Callable[[LocalGrid, Message], None] = lambda grid, message: None,
    faults: Mapping[int, Train] | None = None,
    **settings: Any,
) -> tuple[list[RoundReport], list[Message]]:
    """The reports of a run on three nodes, and all messages that were sent.

    What clients need is predicted for so many rows, which may be fewer than they train on.
    """
    reports: list[RoundReport] = []
    values = {"fleet": FLEET, "min_train_nodes": 1, "fraction_evaluate": 0.0} | settings
    traced = round_planner.trace_costs

    def predicted(config: PretrainedConfig, workload: Workload) -> ModelCosts:
        return traced(config, replace(workload, batch_size=predicted_rows))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(round_planner, "trace_costs", predicted)
        strategy = HSplitLoRA(
            model,
            Training(batch_size=ROWS, sequence_length=SEQUENCE),
            worker=worker,
            observer=reports.append,
            **values,
        )
    grid = LocalGrid(client_app(faults=faults), nodes or node_configs())
    grid._before = lambda message: before(grid, message)
    with grid:
        strategy.start(grid, num_rounds=rounds)
    return reports, grid.sent


def _orders(messages: list[Message]) -> list[dict[str, Any]]:
    return [
        dict(message.content.config_records["hsplit-order"])
        for message in messages
        if message.metadata.message_type == MessageType.TRAIN
    ]


def test_what_a_client_holds_is_measured_and_inside_its_budget(
    model: str, worker: WatchedWorker
) -> None:
    reports, sent = _run(model, worker, rounds=2)
    for report in reports:
        assert len(report.clients) == len(NODES)
        for node, client in report.clients.items():
            assert client.dropped is None
            assert 0 < client.peak_bytes <= client.budget_bytes
            told = report.to_dict()["clients"][str(node)]
            assert told["peak-bytes"] == client.peak_bytes
            assert told["predicted-bytes"] == client.plan.memory.total_bytes
            parts = [told[f"simulated-{part}-seconds"] for part in CLOCK_PARTS]
            assert sum(parts) == pytest.approx(report.to_dict()["simulated-seconds"])
            assert all(part > 0 for part in parts[:3])
    for order in _orders(sent):
        assert 0 < order["predicted-bytes"] <= order["budget-bytes"]
        assert order["lease-gpu-fraction"] == 0.0


def test_who_takes_too_much_is_left_out_and_planned_lower(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    # Predicted for one row, the clients train on three; only the first has room for that.
    reports, _ = _run(model, worker, rounds=4, predicted_rows=1, fleet="1.0,0.37,0.37")
    first, *_, last = reports
    failed = {node for node, client in first.clients.items() if client.dropped}
    assert failed == {SECOND, THIRD}
    for node in failed:
        assert any(f"client {node} is planned for 1/1." in line for line in flower_log)
        rounds = [report.clients[node] for report in reports]
        for client, next_one in pairwise(rounds):
            if client.dropped is not None:
                assert client.peak_bytes > client.budget_bytes >= client.plan.memory.total_bytes
                assert f"at least {size_text(client.peak_bytes)}," in client.dropped
                planned = client.plan.memory.total_bytes
                assert next_one.plan.memory.total_bytes < planned
        assert last.clients[node].dropped is None
    assert all(report.completed for report in reports), "who keeps to its budget carries the round"
    assert all(report.clients[FIRST].dropped is None for report in reports)


def _one_row_from_the_second_round_on(msg: Message, context: Context, some: Batches) -> Message:
    is_first = msg.content.config_records["config"]["server-round"] == 1
    rows = ROWS if is_first else 1
    batches = [{name: field[:rows] for name, field in batch.items()} for batch in some]
    return split_train(msg, context, batches)


def test_who_then_stays_well_inside_is_planned_for_all_of_its_memory_again(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports, _ = _run(
        model,
        worker,
        rounds=5,
        predicted_rows=1,
        fleet="1.0,0.37,1.0",
        faults={1: _one_row_from_the_second_round_on},
        replanning=ReplanSettings(cooldown_rounds=0, margin=0.0),
    )
    clients = [report.clients[SECOND] for report in reports]
    assert clients[0].dropped is not None
    assert [client.dropped for client in clients[1:]] == [None] * 4
    told = [line for line in flower_log if "for all of its memory again" in line]
    assert told == [f"\t> client {SECOND} is planned for all of its memory again"]
    planned = [client.plan.memory.total_bytes for client in clients]
    assert planned[3] > planned[1]


def test_without_enforcement_nobody_is_stopped(model: str, worker: WatchedWorker) -> None:
    reports, _ = _run(model, worker, rounds=1, predicted_rows=1, enforce_budgets=False)
    for client in reports[0].clients.values():
        assert client.dropped is None
        assert client.peak_bytes == 0.0


def test_a_budget_that_is_halved_while_running_is_answered_in_the_next_plan(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    disturbances = Disturbances(budget_changes=budget_changes("3:2=0.5"))
    reports, _ = _run(model, worker, rounds=3, disturbances=disturbances)
    before, after = reports[1].clients[THIRD], reports[2].clients[THIRD]
    assert after.budget_bytes == pytest.approx(before.budget_bytes / 2)
    assert reports[2].replanned
    assert f"client {THIRD}" in reports[2].planning_reason
    assert after.plan.memory.total_bytes <= after.budget_bytes
    assert after.dropped is None
    assert any(f"client {THIRD} has" in line and "it had" in line for line in flower_log)


def test_devices_that_are_away_are_not_asked_to_train(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    disturbances = Disturbances(unavailable=(0.0, 1.0, 0.5), seed=5)
    there = [disturbances.is_available(2, server_round) for server_round in (1, 2, 3, 4)]
    assert set(there) == {True, False}
    reports, _ = _run(model, worker, rounds=4, disturbances=disturbances)
    for report, has_third in zip(reports, there, strict=True):
        assert set(report.clients) == ({FIRST, THIRD} if has_third else {FIRST})
        assert set(report.away) == set(NODES) - set(report.clients)
        assert report.completed
    assert f"\t> client {SECOND} is away" in flower_log
    assert f"\t> client {THIRD} is back" in flower_log


def test_a_round_without_enough_devices_leaves_the_adapter_as_it_is(
    model: str, worker: WatchedWorker
) -> None:
    disturbances = Disturbances(unavailable=(0.0, 1.0, 1.0))
    reports, sent = _run(model, worker, rounds=1, disturbances=disturbances, min_train_nodes=2)
    assert not reports[0].completed
    assert reports[0].clients == {}
    assert _orders(sent) == []


def test_a_device_that_joins_late_is_planned_for(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    def join(grid: LocalGrid, message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            grid.nodes = node_configs()

    reports, _ = _run(
        model, worker, rounds=2, nodes=node_configs(count=2), before=join, min_available_nodes=2
    )
    assert set(reports[0].clients) == {FIRST, SECOND}
    assert set(reports[1].clients) == set(NODES)
    assert reports[1].replanned
    assert f"\t> client {THIRD} has joined" in flower_log


def test_a_device_says_with_each_reply_what_it_has(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    nodes = node_configs(**{"memory-gb": 4e-4, "flops": 1e9})

    def shrink(grid: LocalGrid, message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            grid.nodes[SECOND] = grid.nodes[SECOND] | {"memory-gb": 1.2e-4}

    reports, sent = _run(model, worker, rounds=3, nodes=nodes, before=shrink, fleet=None)
    budgets = [report.clients[SECOND].budget_bytes for report in reports]
    assert budgets == pytest.approx([4e5, 1.2e5, 1.2e5])
    assert reports[1].replanned
    assert reports[1].clients[SECOND].dropped is None
    assert any("memory_bytes 4e+05 -> 1.2e+05" in line for line in flower_log)
    queries = [m for m in sent if m.metadata.message_type == MessageType.QUERY]
    assert len(queries) == len(NODES), "nobody is asked twice"


def test_every_client_is_told_the_part_of_a_card_to_lease(
    model: str, worker: WatchedWorker
) -> None:
    reports, sent = _run(model, worker, rounds=1, lease_card_bytes=1e6)
    for order in _orders(sent):
        assert order["lease-gpu-fraction"] == pytest.approx(order["budget-bytes"] / 1e6, abs=1e-4)
    # Nothing here runs in Ray: they say so instead of training without a lease.
    for client in reports[0].clients.values():
        assert "does not run in Ray" in str(client.dropped)


def test_a_lease_larger_than_any_card_ends_the_run_before_it_trains(
    model: str, worker: WatchedWorker
) -> None:
    sent: list[str] = []
    with pytest.raises(ConfigError, match=r"device 2: .*larger than a card"):
        _run(
            model,
            worker,
            rounds=1,
            lease_card_bytes=2.6e5,
            before=lambda _, message: sent.append(message.metadata.message_type),
        )
    assert sent == [], "not even what devices have is asked"


def test_parts_of_cards_are_for_simulated_fleets(model: str, worker: WatchedWorker) -> None:
    with pytest.raises(ConfigError, match="name a fleet, or leave lease_card_bytes out"):
        _run(model, worker, rounds=1, lease_card_bytes=1e6, fleet=None)


def test_a_file_says_how_often_its_devices_are_away(
    model: str, worker: WatchedWorker, tmp_path: Path
) -> None:
    device = "[[device]]\nmemory-gb = 3e-4\nflops = 1e9\n"
    file = tmp_path / "fleet.toml"
    file.write_text(f"{device}{device}unavailable = 0.999999\n{device}", encoding="utf-8")
    reports, _ = _run(model, worker, rounds=2, fleet=str(file))
    for report in reports:
        assert report.away == (SECOND,)
        assert set(report.clients) == {FIRST, THIRD}
        assert report.completed
