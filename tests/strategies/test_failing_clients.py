"""Clients that cannot, will not or lie: they are left out with their reason, the round goes on."""

import math
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

from hsplit_flower.client.app import split_train
from hsplit_flower.errors import HSplitError
from hsplit_flower.server import RoundReport
from hsplit_flower.splitting.model_name import SINGLE_FILE
from hsplit_flower.transport.traffic import Traffic
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY
from tests.reference.aggregation import dense
from tests.strategies.bad_client import BAD, BAD_NODE, GOOD_NODES, matches, strategy_of
from tests.strategies.clients import (
    NAMES,
    NODES,
    Batches,
    Train,
    WatchedWorker,
    batches,
    client_app,
    node_configs,
)
from tests.strategies.faults import FAULTS, raises
from tests.strategies.local_grid import LocalGrid


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.one_in(2)
def test_a_client_that_fails_is_left_out_with_its_reason(
    model: str,
    worker: WatchedWorker,
    flower_log: list[str],
    fault: str,
    unchecked_shapes: None,
) -> None:
    how, reason = FAULTS[fault]
    if fault == "nan below the cut":
        # There is something to spoil in the second round only.
        how = _in_round(2, how)
    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker, observer=reports.append)
    num_rounds = 2 if fault == "nan below the cut" else 1
    with LocalGrid(client_app(faults={BAD: how}), node_configs()) as grid:
        result = strategy.start(grid, num_rounds=num_rounds)
    report = reports[-1]
    assert report.completed
    assert report.clients[BAD_NODE].dropped is not None
    assert {n for n, client in report.clients.items() if not client.dropped} == GOOD_NODES
    told = [line for line in flower_log if NAMES[BAD_NODE] in line and "left out" in line]
    assert any(matches(reason, line) for line in told), told
    assert result.train_metrics_clientapp[num_rounds]["num-clients"] == 2
    assert math.isfinite(result.train_metrics_clientapp[num_rounds]["train-loss"])
    for update in strategy.adapter.updates.values():
        assert bool(dense(update).isfinite().all())
    scored = {name.rpartition(".")[2] for name in strategy.adapter.importance.scores}
    assert scored == {"q_proj", "up_proj"}
    assert len(strategy.adapter.importance.scores) == 2 * strategy.architecture.num_blocks


def _in_round(number: int, how: Train) -> Train:
    def train(msg: Message, context: Context, some: Batches) -> Message:
        server_round = int(msg.content.config_records["config"]["server-round"])
        return (how if server_round == number else split_train)(msg, context, some)

    return train


def test_a_left_out_client_leaves_no_trace_in_the_adapter(
    model: str, worker: WatchedWorker
) -> None:
    """The round is, weight by weight, the one that the others would have had alone."""
    results = []
    for faults, nodes in (({BAD: raises}, node_configs()), ({}, node_configs())):
        if not faults:
            del nodes[BAD_NODE]
        strategy = strategy_of(model, worker, fleet="1,1,1")
        with LocalGrid(client_app(faults=faults), nodes) as grid:
            strategy.start(grid, num_rounds=1)
        results.append(strategy.adapter.updates)
    for name, update in results[0].items():
        torch.testing.assert_close(dense(update), dense(results[1][name]), rtol=1e-5, atol=1e-8)


def test_too_few_clients_leave_the_adapter_as_it_is(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker, observer=reports.append)
    faults = {0: _in_round(2, raises), 1: _in_round(2, raises)}
    adapters = []

    def remember(message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            adapters.append({n: dense(u) for n, u in strategy.adapter.updates.items()})

    with LocalGrid(client_app(faults=faults), node_configs(), before=remember) as grid:
        result = strategy.start(grid, num_rounds=3)
    assert [report.completed for report in reports] == [True, False, True]
    assert set(result.train_metrics_clientapp) == {1, 3}
    assert any("1 clients finished, 2 are wanted" in line for line in flower_log)
    second, third = adapters[3], adapters[6]
    assert all(torch.equal(second[name], third[name]) for name in second)
    assert any(second[name].norm() > 0 for name in second)


def test_a_client_that_answers_too_late_is_left_out_and_finds_its_session_closed(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    wake_up = threading.Event()

    def oversleeps(msg: Message, context: Context, some: Batches) -> Message:
        wake_up.wait(30.0)
        return split_train(msg, context, some)

    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker, observer=reports.append)
    app = client_app(faults={BAD: oversleeps})
    with LocalGrid(app, node_configs(), last=[BAD_NODE]) as grid:
        strategy.start(grid, num_rounds=1, timeout=5.0)
        wake_up.set()
        (late,) = [answer.result() for answer in grid.late]
    assert reports[0].completed
    silent = reports[0].clients[BAD_NODE]
    assert silent.dropped == "it did not answer in time"
    assert (silent.flower_up_bytes, silent.traffic) == (None, Traffic())
    assert silent.flower_down_bytes > 1000
    assert any("did not answer in time" in line for line in flower_log)
    assert late.has_error()
    assert "AuthenticationError" in late.error.reason


def test_a_client_that_stops_in_the_middle_is_dropped_with_both_halves(
    model: str, worker: WatchedWorker
) -> None:
    def gives_up(msg: Message, context: Context, some: Batches) -> Message:
        def two_and_no_more() -> Any:
            yield from batches(BAD, 1)
            raise RuntimeError("the power is out")

        return split_train(msg, context, two_and_no_more())

    reports: list[RoundReport] = []
    for faults in ({BAD: gives_up}, {}):
        strategy = strategy_of(model, worker, observer=reports.append)
        with LocalGrid(client_app(faults=faults), node_configs()) as grid:
            strategy.start(grid, num_rounds=1)
        if faults:
            assert BAD_NODE not in worker.results, "its half on the worker is not even collected"
    broken, whole = (report.clients[BAD_NODE] for report in reports)
    assert "the power is out" in str(broken.dropped)
    # It has sent all its steps: as many bytes as it says itself when it comes to its end.
    assert broken.traffic is not None and whole.traffic is not None
    assert broken.traffic.up_bytes == pytest.approx(whole.traffic.up_bytes, rel=0.01)
    assert broken.traffic.down_bytes == pytest.approx(whole.traffic.down_bytes, rel=0.01)
    assert broken.flower_up_bytes == len(str(broken.dropped)), "of its reply, the words"


def test_a_client_without_weights_is_told_of_once_and_not_planned_for_until_it_has_them(
    model: str, worker: WatchedWorker, flower_log: list[str], tmp_path: Path
) -> None:
    weights, put_by = tmp_path / "model" / SINGLE_FILE, tmp_path / SINGLE_FILE
    shutil.copytree(model, weights.parent)
    weights.rename(put_by)
    nodes = node_configs()
    nodes[BAD_NODE]["model"] = str(weights.parent)
    reports: list[RoundReport] = []

    def observe(report: RoundReport) -> None:
        reports.append(report)
        if report.server_round == 3:
            put_by.rename(weights)

    strategy = strategy_of(model, worker, observer=observe)
    with LocalGrid(client_app(), nodes) as grid:
        strategy.start(grid, num_rounds=4)
    assert all(report.completed for report in reports)
    assert [set(report.clients) for report in reports] == [GOOD_NODES] * 3 + [set(NODES)]
    for report in reports[:3]:
        assert "cannot be loaded from this device's disk" in report.left_out[BAD_NODE].reason
    assert len([line for line in flower_log if f"{NAMES[BAD_NODE]} is left out" in line]) == 1


def test_an_app_without_the_three_functions_is_told_of(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    strategy = strategy_of(model, worker)
    with (
        LocalGrid(ClientApp(), node_configs()) as grid,
        pytest.raises(HSplitError, match="0 of 1 rounds completed"),
    ):
        strategy.start(grid, num_rounds=1)
    assert any("0 clients finished, 2 are wanted" in line for line in flower_log)
    told = [line for line in flower_log if "No query function registered" in line]
    assert sum(line.count("unnamed") for line in told) == 3


def test_a_message_for_another_strategys_client_says_so(model: str) -> None:
    content = RecordDict({"arrays": ArrayRecord(), "config": ConfigRecord({"server-round": 1})})
    with LocalGrid(client_app(), node_configs()) as grid:
        message = Message(content, dst_node_id=NODES[0], message_type=MessageType.TRAIN)
        (reply,) = grid.send_and_receive([message])
    assert INSTRUCTIONS_KEY in reply.error.reason
    assert "HSplitLoRA" in reply.error.reason
