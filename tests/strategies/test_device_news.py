"""Devices that join, leave or have something else by now: what they say is heard."""

import pytest
from flwr.app import Context, Message, MessageType

from hsplit_flower.client.app import split_train
from tests.strategies.budget_run import asked_in, run
from tests.strategies.clients import NAMES, NODES, Batches, WatchedWorker, node_configs
from tests.strategies.local_grid import LocalGrid

FIRST, SECOND, THIRD = NODES


def test_a_device_that_leaves_while_others_are_asked_is_not_asked_to_train(
    model: str, worker: WatchedWorker
) -> None:
    def come_and_go(grid: LocalGrid, message: Message) -> None:
        """The third comes after the first round; while it is asked, the second is away."""
        if message.metadata.message_type == MessageType.TRAIN:
            grid.nodes = node_configs()
        elif message.metadata.dst_node_id == THIRD:
            del grid.nodes[SECOND]

    reports, _ = run(model, worker, rounds=3, nodes=node_configs(count=2), before=come_and_go)
    assert [set(report.clients) for report in reports] == [
        {FIRST, SECOND},
        {FIRST, THIRD},
        {*NODES},
    ]
    assert all(report.completed for report in reports)


def test_a_device_that_joins_late_is_planned_for(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    def join(grid: LocalGrid, message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            grid.nodes = node_configs()

    reports, _ = run(
        model, worker, rounds=2, nodes=node_configs(count=2), before=join, min_available_nodes=2
    )
    assert set(reports[0].clients) == {FIRST, SECOND}
    assert set(reports[1].clients) == set(NODES)
    assert reports[1].replanned
    assert f"\t> client {NAMES[THIRD]} has joined" in flower_log


def test_a_device_says_with_each_reply_what_it_has(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    nodes = node_configs(**{"memory-gb": 4e-4, "flops": 1e9})

    def shrink(grid: LocalGrid, message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            grid.nodes[SECOND] = grid.nodes[SECOND] | {"memory-gb": 1.2e-4}

    reports, sent = run(model, worker, rounds=3, nodes=nodes, before=shrink, fleet="")
    budgets = [report.clients[SECOND].budget_bytes for report in reports]
    assert budgets == pytest.approx([4e5, 1.2e5, 1.2e5])
    assert reports[1].replanned
    assert reports[1].clients[SECOND].dropped is None
    assert any("memory-gb 0.0004 -> 0.00012" in line for line in flower_log)
    queries = [m for m in sent if m.metadata.message_type == MessageType.QUERY]
    assert len(queries) == len(NODES), "nobody is asked twice"


@pytest.mark.long
def test_a_device_that_was_too_small_is_asked_again_and_comes_back(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    nodes = node_configs(**{"memory-gb": 4e-4, "flops": 1e9})
    nodes[SECOND]["memory-gb"] = 2e-5

    def grow(grid: LocalGrid, message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            number = message.content.config_records["config"]["server-round"]
            grid.nodes[SECOND] = {**grid.nodes[SECOND], "memory-gb": {1: 2.1e-5}.get(number, 4e-4)}

    reports, sent = run(model, worker, rounds=4, nodes=nodes, before=grow, fleet="")
    assert asked_in(reports, SECOND) == [3, 4]
    assert reports[2].replanned
    assert f"nothing that fits client {NAMES[SECOND]}" in reports[2].planning_reason
    assert reports[2].clients[SECOND].dropped is None
    queries = [m for m in sent if m.metadata.message_type == MessageType.QUERY]
    asked = [message.metadata.dst_node_id for message in queries]
    assert sorted(asked) == sorted([*NODES, SECOND, SECOND]), "in rounds 2 and 3"


@pytest.mark.long
def test_a_device_that_failed_is_asked_again_what_it_has(model: str, worker: WatchedWorker) -> None:
    nodes = node_configs(**{"memory-gb": 4e-4, "flops": 1e9})

    def fail_once(msg: Message, context: Context, some: Batches) -> Message:
        if msg.content.config_records["config"]["server-round"] == 1:
            raise ValueError("my disk is full")
        return split_train(msg, context, some)

    def shrink(grid: LocalGrid, message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            grid.nodes[SECOND] = {**grid.nodes[SECOND], "memory-gb": 1.2e-4}

    reports, sent = run(
        model, worker, rounds=3, nodes=nodes, before=shrink, fleet="", faults={1: fail_once}
    )
    budgets = [report.clients[SECOND].budget_bytes for report in reports]
    assert budgets == pytest.approx([4e5, 1.2e5, 1.2e5])
    queries = [m for m in sent if m.metadata.message_type == MessageType.QUERY]
    assert len(queries) == len(NODES) + 1
