"""Clients that cannot, will not or lie: they are left out with their reason, the round goes on."""

import math
import re
import threading
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

from hsplit_flower.client.app import describe_device, split_train
from hsplit_flower.server import RoundReport
from hsplit_flower.settings import PlanSettings, Training
from hsplit_flower.strategies import HSplitLoRA
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY, PROFILE_KEY
from tests.reference.aggregation import dense
from tests.strategies.clients import (
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

BAD = 1
BAD_NODE = NODES[BAD]
GOOD_NODES = {NODES[0], NODES[2]}


def strategy_of(model: str, worker: WatchedWorker, **settings: Any) -> HSplitLoRA:
    settings = {
        # Few weights: what is tested here does not depend on how many there are.
        "planning": PlanSettings(max_rank=4, targets=("q_proj", "up_proj")),
        "fleet": "0.5,0.8,1",
        "fraction_evaluate": 0.0,
        "worker": worker,
    } | settings
    return HSplitLoRA(model, Training(batch_size=3, sequence_length=9), **settings)


@pytest.mark.parametrize("fault", FAULTS)
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
    told = [line for line in flower_log if str(BAD_NODE) in line and "left out" in line]
    assert any(_matches(reason, line) for line in told), told
    assert result.train_metrics_clientapp[num_rounds]["num-clients"] == 2
    assert math.isfinite(result.train_metrics_clientapp[num_rounds]["train-loss"])
    for update in strategy.adapter.updates.values():
        assert bool(dense(update).isfinite().all())
    assert set(strategy.planner.history.scores) == {w.name for w in strategy.architecture.weights}


def _matches(pattern: str, line: str) -> bool:
    return re.search(pattern, line) is not None


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
    assert reports[0].clients[BAD_NODE].dropped == "it did not answer in time"
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
    strategy = strategy_of(model, worker, observer=reports.append)
    with LocalGrid(client_app(faults={BAD: gives_up}), node_configs()) as grid:
        strategy.start(grid, num_rounds=1)
    assert "the power is out" in str(reports[0].clients[BAD_NODE].dropped)
    assert BAD_NODE not in worker.results, "its half on the worker is not even collected"


def test_a_client_that_does_not_fit_is_left_out_with_the_memory_that_it_lacks(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports: list[RoundReport] = []
    strategy = strategy_of(
        model, worker, observer=reports.append, fleet="0.5,0.01,1", fraction_evaluate=1.0
    )
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=1)
    assert set(reports[0].clients) == GOOD_NODES
    (line,) = [line for line in flower_log if f"> client {BAD_NODE} is left out" in line]
    budget, needed, lacking = _sizes(line.split("it has")[1])
    assert 0 < budget < needed
    # Four digits of each are told.
    assert lacking == pytest.approx(needed - budget, abs=1e-3 * needed)
    asked = {
        message.metadata.dst_node_id
        for message in grid.sent
        if message.metadata.message_type != MessageType.QUERY
    }
    assert asked == GOOD_NODES, "what cannot hold the smallest cut is not asked to evaluate either"


def test_a_round_that_too_few_fit_is_not_begun(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports: list[RoundReport] = []
    strategy = strategy_of(
        model, worker, observer=reports.append, fleet="0.5,0.01,0.01", fraction_evaluate=1.0
    )
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=1)
    assert {message.metadata.message_type for message in grid.sent} == {MessageType.QUERY}
    assert sum("1 clients can take part, 2 are wanted" in line for line in flower_log) == 2
    assert not any(report.completed for report in reports)


def _sizes(text: str) -> list[float]:
    units = {"B": 1.0, "kB": 1e3, "MB": 1e6}
    return [float(n) * units[unit] for n, unit in re.findall(r"([\d.]+) (B|kB|MB)\b", text)]


def test_budgets_of_node_configs_count_without_a_fleet(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    configs = node_configs(**{"flops": 1e10, "memory-gb": 1.0})
    configs[BAD_NODE]["memory-gb"] = 2e-5
    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker, observer=reports.append, fleet=None)
    with LocalGrid(client_app(), configs) as grid:
        strategy.start(grid, num_rounds=1)
    assert set(reports[0].clients) == GOOD_NODES
    assert any(f"client {BAD_NODE} is left out: it has 20 kB" in line for line in flower_log)


@pytest.mark.parametrize(
    ("config", "num_examples", "reason"),
    [
        ({"memory-gb": "plenty"}, 5, "memory-gb is 'plenty'"),
        ({"memory-gb": -1.0, "rtt-ms": -2.0}, 5, "memory-gb is -1.0.*rtt-ms is -2.0"),
        ({}, 0, "partition is empty"),
    ],
)
def test_a_client_that_cannot_describe_itself_is_left_out(
    model: str,
    worker: WatchedWorker,
    flower_log: list[str],
    config: dict[str, Any],
    num_examples: int,
    reason: str,
) -> None:
    app = ClientApp()

    @app.query()
    def query(msg: Message, context: Context) -> Message:
        is_bad = context.node_id == BAD_NODE
        return describe_device(msg, context, num_examples if is_bad else 5)

    @app.train()
    def train(msg: Message, context: Context) -> Message:
        return split_train(msg, context, batches(0, 1))

    configs = node_configs(**{"flops": 1e10, "memory-gb": 1.0})
    configs[BAD_NODE] |= config
    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker, observer=reports.append, fleet=None)
    with LocalGrid(app, configs) as grid:
        strategy.start(grid, num_rounds=1)
    assert set(reports[0].clients) == GOOD_NODES
    told = [line for line in flower_log if str(BAD_NODE) in line and "left out" in line]
    assert any(_matches(reason, line) for line in told), told


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num-examples", math.inf),
        ("num-examples", math.nan),
        ("num-examples", -3),
        ("num-examples", "many"),
        ("num-examples", [1, 2]),
        ("num-examples", 2**63 - 1),
        ("num-examples", 1e300),
        ("partition-id", -1),
        ("num-partitions", 2**62),
        ("memory-bytes", math.inf),
        ("memory-bytes", -1.0),
        ("flops-per-second", 5e-324),
        ("up-bytes-per-second", 1e-300),
        ("round-trip-seconds", 1e308),
    ],
)
def test_a_description_that_makes_no_sense_is_not_believed(
    model: str, worker: WatchedWorker, flower_log: list[str], key: str, value: Any
) -> None:
    app = client_app()
    healthy = app._registered_funcs["query.default"]

    def query(msg: Message, context: Context) -> Message:
        reply = healthy(msg, context)
        if context.node_id == BAD_NODE:
            reply.content.config_records[PROFILE_KEY][key] = value
        return reply

    app._registered_funcs["query.default"] = query
    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker, observer=reports.append)
    with LocalGrid(app, node_configs()) as grid:
        strategy.start(grid, num_rounds=1)
    assert set(reports[0].clients) == GOOD_NODES
    assert any(f"{BAD_NODE} is left out, its device desc" in line for line in flower_log)


def test_an_app_without_the_three_functions_is_told_of(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    strategy = strategy_of(model, worker)
    with LocalGrid(ClientApp(), node_configs()) as grid:
        result = strategy.start(grid, num_rounds=1)
    assert not result.train_metrics_clientapp
    assert any("0 clients finished, 2 are wanted" in line for line in flower_log)
    assert sum("No query function registered" in line for line in flower_log) == 3


@pytest.mark.parametrize("least", [2, 3])
def test_a_client_that_fails_to_evaluate_is_left_out_of_the_mean(
    model: str, worker: WatchedWorker, flower_log: list[str], least: int
) -> None:
    app = client_app()
    healthy = app._registered_funcs["evaluate.default"]

    def evaluate(msg: Message, context: Context) -> Message:
        if context.node_id == BAD_NODE:
            raise RuntimeError("no held-out data here")
        return healthy(msg, context)

    app._registered_funcs["evaluate.default"] = evaluate
    strategy = strategy_of(model, worker, fraction_evaluate=1.0, min_evaluate_nodes=least)
    with LocalGrid(app, node_configs()) as grid:
        result = strategy.start(grid, num_rounds=1)
    assert any("no held-out data here" in line for line in flower_log)
    is_enough = least == 2
    assert {r: m["num-clients"] for r, m in result.evaluate_metrics_clientapp.items()} == (
        {1: 2} if is_enough else {}
    )
    assert any("2 clients finished, 3 are wanted" in line for line in flower_log) != is_enough


def test_a_client_that_evaluates_too_late_is_told_of(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    app, wake_up = client_app(), threading.Event()
    healthy = app._registered_funcs["evaluate.default"]

    def evaluate(msg: Message, context: Context) -> Message:
        if context.node_id == BAD_NODE:
            wake_up.wait(30.0)
        return healthy(msg, context)

    app._registered_funcs["evaluate.default"] = evaluate
    strategy = strategy_of(model, worker, fraction_train=0.0, fraction_evaluate=1.0)
    with LocalGrid(app, node_configs(), last=[BAD_NODE]) as grid:
        result = strategy.start(grid, num_rounds=1, timeout=5.0)
        wake_up.set()
    assert result.evaluate_metrics_clientapp[1]["num-clients"] == 2
    told = f"client {BAD_NODE} is left out: it did not answer in time"
    assert any(told in line for line in flower_log)


def test_clients_that_join_and_leave(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    reports: list[RoundReport] = []
    changes = {2: "join", 3: "leave"}

    def change(report: RoundReport) -> None:
        reports.append(report)
        what = changes.get(report.server_round + 1)
        if what == "join":
            grid.nodes[NODES[2]] = node_configs()[NODES[2]]
        elif what == "leave":
            del grid.nodes[NODES[0]]

    strategy = strategy_of(model, worker, observer=change)
    with LocalGrid(client_app(), node_configs(count=2)) as grid:
        strategy.start(grid, num_rounds=3)
    assert [set(report.clients) for report in reports] == [
        set(NODES[:2]),
        set(NODES),
        set(NODES[1:]),
    ]
    assert reports[1].replanned
    assert "joined" in reports[1].planning_reason
    queries = [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "query"]
    assert sorted(queries) == sorted(NODES)


def test_a_message_for_another_strategys_client_says_so(model: str) -> None:
    content = RecordDict({"arrays": ArrayRecord(), "config": ConfigRecord({"server-round": 1})})
    with LocalGrid(client_app(), node_configs()) as grid:
        message = Message(content, dst_node_id=NODES[0], message_type=MessageType.TRAIN)
        (reply,) = grid.send_and_receive([message])
    assert INSTRUCTIONS_KEY in reply.error.reason
    assert "HSplitLoRA" in reply.error.reason
