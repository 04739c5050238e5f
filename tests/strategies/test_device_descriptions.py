"""What devices say of themselves: what cannot be believed leaves its client out."""

import math
import re
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from hsplit_flower.client.app import describe_device, split_train
from hsplit_flower.server import RoundReport
from hsplit_flower.wire.instructions import PROFILE_KEY
from tests.strategies.bad_client import BAD_NODE, GOOD_NODES, matches, strategy_of
from tests.strategies.clients import (
    WatchedWorker,
    batches,
    client_app,
    node_configs,
)
from tests.strategies.local_grid import LocalGrid


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
    strategy = strategy_of(model, worker, observer=reports.append, fleet="")
    with LocalGrid(app, configs) as grid:
        strategy.start(grid, num_rounds=1)
    assert set(reports[0].clients) == GOOD_NODES
    told = [line for line in flower_log if re.search(r"client \S+ is left out", line)]
    assert any(matches(reason, line) for line in told), told


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
@pytest.mark.one_in(3)
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
    assert any("unnamed is left out: its device desc" in line for line in flower_log)
