"""A worker of the strategy's own ends with the run, one that was given goes on."""

import socket

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.server import RoundReport
from hsplit_flower.settings import Worker
from tests.strategies.clients import WatchedWorker, address_in, client_app, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of


def test_its_own_worker_is_gone_afterwards(model: str) -> None:
    strategy = strategy_of(model, worker=Worker(num_threads=1))
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=1)
        address = address_in(grid.sent[-1])
        with pytest.raises(ConfigError, match="not running"):
            _ = strategy._sessions.group
    assert _refuses_connections(address)


def test_a_worker_that_was_given_goes_on(model: str, worker: WatchedWorker) -> None:
    strategy = strategy_of(model, worker=worker)
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=1)
    assert not worker.is_stopped
    assert worker.describe().num_blocks == 3


def test_the_worker_is_stopped_and_sessions_closed_when_a_run_breaks(model: str) -> None:
    def explode(report: RoundReport) -> None:
        raise RuntimeError("the disk is full")

    strategy = strategy_of(model, observer=explode)
    with LocalGrid(client_app(), node_configs()) as grid:
        with pytest.raises(RuntimeError, match="the disk is full"):
            strategy.start(grid, num_rounds=1)
        address = address_in(grid.sent[-1])
    assert _refuses_connections(address)


def _refuses_connections(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0
