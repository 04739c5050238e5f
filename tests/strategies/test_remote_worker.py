"""The strategy with a split worker in a process of its own."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from flwr.app import Context, Message

from hsplit_flower.client.app import split_train
from hsplit_flower.errors import AuthenticationError, ConfigError, WorkerUnavailableError
from hsplit_flower.server import RoundReport
from hsplit_flower.server.split_strategy import SplitStrategy
from hsplit_flower.settings import Model, Planning
from hsplit_flower.settings import Worker as WorkerSettings
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.transport.traffic import Traffic
from hsplit_flower.worker.hosting import host_worker
from tests.families import checkpoint
from tests.reference.aggregation import dense, relative_error
from tests.strategies.clients import NODES, Batches, client_app, node_configs
from tests.strategies.fixtures import OPERATOR_TOKEN
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of as tiny_strategy
from tests.transport.one_session import free_port

IMPATIENT = ChannelSettings(step_timeout_seconds=5.0, num_tries=2, pause_seconds=0.05)


@contextmanager
def worker_process(model: str, port: int = 0) -> Iterator[str]:
    """``hsplit worker`` on a free port; yields its address."""
    command = [sys.executable, "-m", "hsplit_flower.cli", "worker", "--model", model]
    command += ["--port", str(port)]
    process = subprocess.Popen(
        [*command, "--threads", "1"],
        env={**os.environ, "HSPLIT_OPERATOR_TOKEN": OPERATOR_TOKEN},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def address(model: str) -> Iterator[str]:
    with worker_process(model) as where:
        yield where


def strategy_of(model: str, **settings: Any) -> SplitStrategy:
    planning = Planning(max_rank=4, worker_session_rank=0)
    settings = {"planning": planning, "fleet": "0.5,0.8,1", "fraction_evaluate": 1.0} | settings
    return tiny_strategy(model, **settings)


@pytest.mark.long
def test_another_process_gives_the_same_result(model: str, address: str) -> None:
    adapters, losses = [], []
    remote = RemoteWorker(address, OPERATOR_TOKEN)
    for worker in ({}, {"worker": remote}):
        strategy = strategy_of(model, **worker)
        with LocalGrid(client_app(), node_configs()) as grid:
            result = strategy.start(grid, num_rounds=2)
        adapters.append(strategy.adapter.updates)
        losses.append([result.evaluate_metrics_clientapp[i]["loss"] for i in (1, 2)])
    assert remote.steps() == {}, "all sessions are closed"
    remote.stop()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name, update in adapters[0].items():
        assert relative_error(adapters[1][name], dense(update)) < 1e-4


def test_a_wrong_operator_token_stops_the_run_before_anybody_is_asked(
    model: str, address: str
) -> None:
    remote = RemoteWorker(address, "a guess", IMPATIENT)
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(AuthenticationError, match="operator token"),
    ):
        strategy_of(model, worker=remote).start(grid, num_rounds=1)
    remote.stop()
    assert not grid.sent


def test_a_worker_that_is_not_there_stops_the_run(model: str) -> None:
    remote = RemoteWorker("127.0.0.1:9", OPERATOR_TOKEN, IMPATIENT)
    with LocalGrid(client_app(), node_configs()) as grid, pytest.raises(WorkerUnavailableError):
        strategy_of(model, worker=remote).start(grid, num_rounds=1)
    remote.stop()
    assert not grid.sent


@pytest.mark.long
def test_a_worker_that_no_client_reaches_stops_the_run_after_a_round(model: str) -> None:
    """It listens, and clients are told another host of this machine."""
    reports: list[RoundReport] = []
    strategy = strategy_of(
        model,
        worker=WorkerSettings(advertised_host="127.0.0.9"),
        observer=reports.append,
        patience_seconds=0.1,
    )
    with (
        LocalGrid(client_app(), node_configs(count=2)) as grid,
        pytest.raises(
            WorkerUnavailableError,
            match=r"no client has reached .*: clinic-0, clinic-1 were told that it is at "
            r"127\.0\.0\.9:\d+\. .*Set worker\.advertised-host, which is '127\.0\.0\.9'",
        ),
    ):
        strategy.start(grid, num_rounds=3)
    (report,) = reports
    assert [client.traffic for client in report.clients.values()] == [Traffic(), Traffic()]


@pytest.mark.parametrize(
    ("served", "complaint"),
    [
        ({"name": "llama-tiny"}, "'llama-tiny'"),
        ({"lowest_cut": 2}, "blocks 2 to 3"),
        ({"dtype": "bfloat16"}, "computes in bfloat16, float32 is wanted"),
        ({"dtype": "nf4"}, "computes in nf4 in bfloat16, float32 is wanted"),
    ],
    ids=["another model", "too few blocks", "another dtype", "a quantised base"],
)
def test_a_worker_that_serves_something_else_is_refused(
    model: str, served: dict[str, Any], complaint: str
) -> None:
    lowest_cut = served.pop("lowest_cut", 1)
    worker = host_worker(Model(**{"name": model, **served}), lowest_cut=lowest_cut)
    try:
        with (
            LocalGrid(client_app(), node_configs()) as grid,
            pytest.raises(ConfigError, match=complaint),
        ):
            strategy_of(model, worker=worker).start(grid, num_rounds=1)
    finally:
        worker.stop()
    assert not grid.sent


def test_a_worker_that_has_loaded_another_family_is_refused(model: str) -> None:
    worker = host_worker(Model(name=str(checkpoint("qwen2"))))
    try:
        strategy = strategy_of(model, worker=worker, fraction_train=0.0, fraction_evaluate=0.0)
        with (
            LocalGrid(client_app(), node_configs()) as grid,
            pytest.raises(ConfigError, match=r"has loaded .*qwen2.*another base than the server"),
        ):
            strategy.start(grid, num_rounds=1)
    finally:
        worker.stop()


@pytest.mark.long
def test_a_worker_that_comes_back_within_the_round_has_its_clients_begin_it_anew(
    model: str, flower_log: list[str]
) -> None:
    port = free_port()
    reports: list[RoundReport] = []
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        address = first.enter_context(worker_process(model, port))
        killed = threading.Event()

        def train(msg: Message, context: Context, some: Batches) -> Message:
            def while_it_is_killed() -> Iterator[Any]:
                for number, batch in enumerate(some):
                    if number == 1 and not killed.is_set():
                        killed.set()
                        first.close()
                        stack.enter_context(worker_process(model, port))
                    yield batch

            return split_train(msg, context, while_it_is_killed())

        strategy = strategy_of(
            model,
            worker=RemoteWorker(address, OPERATOR_TOKEN),
            fraction_evaluate=0.0,
            observer=reports.append,
        )
        with LocalGrid(client_app(faults={0: train}), node_configs()) as grid:
            strategy.start(grid, num_rounds=1)
    undisturbed = strategy_of(model, fraction_evaluate=0.0)
    with LocalGrid(client_app(), node_configs()) as grid:
        undisturbed.start(grid, num_rounds=1)
    (report,) = reports
    assert killed.is_set() and report.completed
    assert all(client.dropped is None for client in report.clients.values())
    assert any("was started anew, without sessions" in line for line in flower_log)
    for name, update in undisturbed.adapter.updates.items():
        assert relative_error(strategy.adapter.updates[name], dense(update)) < 1e-4


@pytest.mark.long
def test_a_worker_that_dies_costs_the_round_and_not_what_was_reached(
    model: str, flower_log: list[str]
) -> None:
    reports: list[RoundReport] = []
    adapters = []
    with worker_process(model) as where:
        remote = RemoteWorker(where, OPERATOR_TOKEN, IMPATIENT)
        strategy = strategy_of(model, worker=remote, fraction_evaluate=0.0)

        def kill_after_the_first(report: RoundReport) -> None:
            reports.append(report)
            adapters.append(strategy.adapter.updates)

        strategy.observer = kill_after_the_first
        with LocalGrid(client_app(), node_configs()) as grid:
            strategy.start(grid, num_rounds=1)
    with LocalGrid(client_app(), node_configs()) as grid, pytest.raises(WorkerUnavailableError):
        strategy.start(grid, strategy.state.arrays, num_rounds=1)
    remote.stop()
    assert reports[0].completed
    assert strategy.adapter.updates is adapters[0]
    assert set(reports[0].clients) == set(NODES)
