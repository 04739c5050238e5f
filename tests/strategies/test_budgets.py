"""Budgets over the rounds: enforced, corrected, and changed while running."""

from itertools import count, pairwise
from pathlib import Path

import pytest
from flwr.app import Context, Message, MessageType

from hsplit_flower.client.app import split_train
from hsplit_flower.errors import ConfigError
from hsplit_flower.planning import ReplanSettings
from hsplit_flower.server import RoundReport
from hsplit_flower.server.client_selection import ClientSelection
from hsplit_flower.simulation.disturbances import Disturbances, budget_changes
from hsplit_flower.sizes import size_text
from hsplit_flower.types import ClientInfo
from tests.strategies.budget_run import ROWS, orders_in, run
from tests.strategies.clients import NODES, Batches, Train, WatchedWorker, node_configs
from tests.strategies.local_grid import LocalGrid

FIRST, SECOND, THIRD = NODES
CLOCK_PARTS = ("compute", "link", "worker", "waiting")


def test_what_a_client_holds_is_measured_and_inside_its_budget(
    model: str, worker: WatchedWorker
) -> None:
    reports, sent = run(model, worker, rounds=2)
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
    for order in orders_in(sent):
        assert 0 < order["predicted-bytes"] <= order["budget-bytes"]
        assert order["lease-gpu-fraction"] == 0.0


def test_who_takes_too_much_is_left_out_and_planned_lower(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    # Predicted for one row, the clients train on three; only the first has room for that.
    reports, _ = run(model, worker, rounds=4, predicted_rows=1, fleet="1.0,0.37,0.37")
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
    reports, _ = run(
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


def _exceeding_in(*rounds: int) -> Train:
    """Train on a batch of many times what is planned for, in these rounds."""

    def train(msg: Message, context: Context, some: Batches) -> Message:
        times = 8 if msg.content.config_records["config"]["server-round"] in rounds else 1
        batches = [{name: field.repeat(times, 1) for name, field in b.items()} for b in some]
        return split_train(msg, context, batches)

    return train


# The memory of the second holds the smallest cut, and hardly more.
JUST_ENOUGH = "1.0,0.185,1.0"


def _asked(reports: list[RoundReport], node: int) -> list[int]:
    return [report.server_round for report in reports if node in report.clients]


def test_who_is_left_out_for_one_large_batch_is_tried_again(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports, _ = run(model, worker, rounds=6, fleet=JUST_ENOUGH, faults={1: _exceeding_in(1)})
    assert reports[0].clients[SECOND].plan.cut == 1
    assert reports[0].clients[SECOND].dropped is not None
    asked = _asked(reports, SECOND)
    assert 2 not in asked, "it is left out at first"
    again = reports[asked[1] - 1]
    assert again.replanned
    assert str(SECOND) in again.planning_reason
    assert asked == [1, *range(asked[1], 7)]
    assert all(reports[number - 1].clients[SECOND].dropped is None for number in asked[1:])
    (own,) = {report.clients[SECOND].budget_bytes for report in reports if report.server_round == 1}
    left_out = [line for line in flower_log if f"> client {SECOND} is left out: it has" in line]
    assert len(left_out) == asked[1] - 2
    assert all(f"it has {size_text(own)} (planned for 1/1." in line for line in left_out)


def test_who_exceeds_again_waits_longer(model: str, worker: WatchedWorker) -> None:
    reports, _ = run(
        model, worker, rounds=12, fleet=JUST_ENOUGH, faults={1: _exceeding_in(*range(1, 13))}
    )
    asked = _asked(reports, SECOND)
    assert all(reports[number - 1].clients[SECOND].dropped is not None for number in asked)
    waits = [later - earlier - 1 for earlier, later in pairwise(asked)]
    assert len(waits) >= 2
    assert waits == sorted(set(waits)), "longer each time"
    assert all(report.completed for report in reports)


def test_without_enforcement_nobody_is_stopped(model: str, worker: WatchedWorker) -> None:
    reports, _ = run(model, worker, rounds=1, predicted_rows=1, enforce_budgets=False)
    for client in reports[0].clients.values():
        assert client.dropped is None
        assert client.peak_bytes == 0.0


def test_a_budget_that_is_halved_while_running_is_answered_in_the_next_plan(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    disturbances = Disturbances(budget_changes=budget_changes("3:2=0.5"))
    reports, _ = run(model, worker, rounds=3, disturbances=disturbances)
    before, after = reports[1].clients[THIRD], reports[2].clients[THIRD]
    assert after.budget_bytes == pytest.approx(before.budget_bytes / 2)
    assert reports[2].replanned
    assert f"client {THIRD}" in reports[2].planning_reason
    assert after.plan.memory.total_bytes <= after.budget_bytes
    assert after.dropped is None
    assert any(f"client {THIRD} has" in line and "it had" in line for line in flower_log)


def test_a_change_of_a_device_that_the_run_does_not_have_ends_it_before_it_trains(
    model: str, worker: WatchedWorker
) -> None:
    sent: list[str] = []
    with pytest.raises(ConfigError, match=r"no device 99 in .*devices are 0 to 2"):
        run(
            model,
            worker,
            rounds=3,
            fleet="homogeneous",
            disturbances=Disturbances(budget_changes=budget_changes("3:99=0.5")),
            before=lambda _, message: sent.append(message.metadata.message_type),
        )
    assert set(sent) == {MessageType.QUERY}


def test_devices_that_are_away_are_not_asked_to_train(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    disturbances = Disturbances(unavailable=(0.0, 1.0, 0.5), seed=5)
    there = [disturbances.is_available(2, server_round) for server_round in (1, 2, 3, 4)]
    assert set(there) == {True, False}
    reports, _ = run(model, worker, rounds=4, disturbances=disturbances)
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
    reports, sent = run(model, worker, rounds=1, disturbances=disturbances, min_train_nodes=2)
    assert not reports[0].completed
    assert reports[0].clients == {}
    assert orders_in(sent) == []


def test_a_round_that_is_left_out_repeats_nothing_of_the_one_before(
    model: str, worker: WatchedWorker
) -> None:
    disturbances = Disturbances(unavailable=(0.0, 0.5, 0.5), seed=2)
    reports, _ = run(model, worker, rounds=2, disturbances=disturbances, min_train_nodes=2)
    assert [report.completed for report in reports] == [True, False]
    assert [report.replanned for report in reports] == [True, False]
    assert [report.planning_reason for report in reports] == [
        "the first round",
        "nothing is planned",
    ]


def test_a_round_without_any_device_that_fits_is_left_out_and_the_run_goes_on(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    disturbances = Disturbances(unavailable=(0.5, 0.0, 0.0), seed=7)
    there = [disturbances.is_available(0, server_round) for server_round in range(1, 5)]
    assert there == [False, True, False, True]
    reports, sent = run(
        model,
        worker,
        rounds=4,
        fleet="1.0,0.01,0.01",
        disturbances=disturbances,
        fraction_evaluate=1.0,
        min_evaluate_nodes=1,
    )
    assert [set(report.clients) for report in reports] == [{FIRST} if h else set() for h in there]
    assert [report.completed for report in reports] == there
    asked = [m for m in sent if m.metadata.message_type != MessageType.QUERY]
    assert {message.metadata.dst_node_id for message in asked} == {FIRST}
    assert len(asked) == 2 * sum(there), "to train and to evaluate"
    assert (
        sum("0 clients can take part, 1 are wanted: training" in line for line in flower_log) == 2
    )
    for node in (SECOND, THIRD):
        assert sum(f"client {node} is left out: it has" in line for line in flower_log) == 4


def test_a_device_that_leaves_while_others_are_asked_is_not_asked_to_train(
    model: str, worker: WatchedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = ClientSelection.everyone
    rounds = count(1)

    def everyone(turnout: ClientSelection, grid: LocalGrid) -> dict[int, ClientInfo]:
        left = {SECOND} if next(rounds) == 2 else set()
        return {node: member for node, member in seen(turnout, grid).items() if node not in left}

    monkeypatch.setattr(ClientSelection, "everyone", everyone)
    reports, _ = run(model, worker, rounds=3)
    assert [set(report.clients) for report in reports] == [{*NODES}, {FIRST, THIRD}, {*NODES}]
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
    assert f"\t> client {THIRD} has joined" in flower_log


def test_a_device_says_with_each_reply_what_it_has(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    nodes = node_configs(**{"memory-gb": 4e-4, "flops": 1e9})

    def shrink(grid: LocalGrid, message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            grid.nodes[SECOND] = grid.nodes[SECOND] | {"memory-gb": 1.2e-4}

    reports, sent = run(model, worker, rounds=3, nodes=nodes, before=shrink, fleet=None)
    budgets = [report.clients[SECOND].budget_bytes for report in reports]
    assert budgets == pytest.approx([4e5, 1.2e5, 1.2e5])
    assert reports[1].replanned
    assert reports[1].clients[SECOND].dropped is None
    assert any("memory_bytes 4e+05 -> 1.2e+05" in line for line in flower_log)
    queries = [m for m in sent if m.metadata.message_type == MessageType.QUERY]
    assert len(queries) == len(NODES), "nobody is asked twice"


def test_a_device_that_was_too_small_is_asked_again_and_comes_back(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    nodes = node_configs(**{"memory-gb": 4e-4, "flops": 1e9})
    nodes[SECOND]["memory-gb"] = 2e-5

    def grow(grid: LocalGrid, message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            number = message.content.config_records["config"]["server-round"]
            grid.nodes[SECOND] = {**grid.nodes[SECOND], "memory-gb": {1: 2.1e-5}.get(number, 4e-4)}

    reports, sent = run(model, worker, rounds=4, nodes=nodes, before=grow, fleet=None)
    assert _asked(reports, SECOND) == [3, 4]
    assert reports[2].replanned
    assert f"client {SECOND} joined, or do not fit" in reports[2].planning_reason
    assert reports[2].clients[SECOND].dropped is None
    queries = [m for m in sent if m.metadata.message_type == MessageType.QUERY]
    asked = [message.metadata.dst_node_id for message in queries]
    assert sorted(asked) == sorted([*NODES, SECOND, SECOND]), "in rounds 2 and 3"


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
        model, worker, rounds=3, nodes=nodes, before=shrink, fleet=None, faults={1: fail_once}
    )
    budgets = [report.clients[SECOND].budget_bytes for report in reports]
    assert budgets == pytest.approx([4e5, 1.2e5, 1.2e5])
    queries = [m for m in sent if m.metadata.message_type == MessageType.QUERY]
    assert len(queries) == len(NODES) + 1


def test_a_file_says_how_often_its_devices_are_away(
    model: str, worker: WatchedWorker, tmp_path: Path
) -> None:
    device = "[[device]]\nmemory-gb = 3e-4\nflops = 1e9\n"
    file = tmp_path / "fleet.toml"
    file.write_text(f"{device}{device}unavailable = 0.999999\n{device}", encoding="utf-8")
    reports, _ = run(model, worker, rounds=2, fleet=str(file))
    for report in reports:
        assert report.away == (SECOND,)
        assert set(report.clients) == {FIRST, THIRD}
        assert report.completed
