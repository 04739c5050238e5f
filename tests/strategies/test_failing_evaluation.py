"""Clients that fail to evaluate, or are late: the mean is that of the others."""

import threading

import pytest
from flwr.app import Context, Message

from tests.strategies.bad_client import BAD_NODE, strategy_of
from tests.strategies.clients import (
    NAMES,
    WatchedWorker,
    client_app,
    node_configs,
)
from tests.strategies.local_grid import LocalGrid


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


@pytest.mark.long
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
    told = f"client {NAMES[BAD_NODE]} is left out: it did not answer in time"
    assert any(told in line for line in flower_log)
