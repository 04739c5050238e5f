"""Clients that do not fit, and clients that come and go: who takes part, and who is told of."""

import re

import pytest
from flwr.app import MessageType

from hsplit_flower.errors import HSplitError
from hsplit_flower.server import RoundReport
from tests.strategies.bad_client import BAD_NODE, GOOD_NODES, strategy_of
from tests.strategies.clients import (
    NAMES,
    NODES,
    WatchedWorker,
    client_app,
    node_configs,
)
from tests.strategies.local_grid import LocalGrid


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
    (line,) = [line for line in flower_log if f"> client {NAMES[BAD_NODE]} is left out" in line]
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
    failed = pytest.raises(HSplitError, match="nothing was learnt")
    with LocalGrid(client_app(), node_configs()) as grid, failed:
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
    strategy = strategy_of(model, worker, observer=reports.append, fleet="")
    with LocalGrid(client_app(), configs) as grid:
        strategy.start(grid, num_rounds=1)
    assert set(reports[0].clients) == GOOD_NODES
    assert any(f"client {NAMES[BAD_NODE]} is left out: it has 20 kB" in line for line in flower_log)


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
    assert "nothing that fits" in reports[1].planning_reason
    queries = [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "query"]
    assert sorted(queries) == sorted(NODES)
