"""Clients that take turns: a round is longer than the worker waits for one that falls silent."""

import time

import pytest
from flwr.app import Context, Message

from hsplit_flower.client.app import split_train
from hsplit_flower.server import RoundReport
from hsplit_flower.settings import Worker
from hsplit_flower.types import LONGEST_ROUND_SECONDS
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY, Instructions
from tests.strategies.clients import Batches, WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of

SESSION_TIMEOUT_SECONDS = 1.0


def _queues_first(msg: Message, context: Context, some: Batches) -> Message:
    """As where others hold the cores, or the card."""
    time.sleep(1.5 * SESSION_TIMEOUT_SECONDS)
    return split_train(msg, context, some)


def test_who_waits_for_its_turn_and_who_has_had_it_keep_their_sessions(model: str) -> None:
    reports: list[RoundReport] = []
    impatient = Worker(session_timeout_seconds=SESSION_TIMEOUT_SECONDS, num_threads=1)
    strategy = strategy_of(model, worker=impatient, observer=reports.append, fleet="")
    app = client_app(faults={0: _queues_first, 1: _queues_first})
    with LocalGrid(app, node_configs(count=2)) as grid:
        strategy.start(grid, num_rounds=1)
    assert [client.dropped for client in reports[0].clients.values()] == [None, None]


@pytest.mark.parametrize(
    ("timeout", "told"), [(50, 50), (2.0 * LONGEST_ROUND_SECONDS, LONGEST_ROUND_SECONDS)]
)
def test_worker_and_clients_are_told_how_long_the_round_may_last(
    model: str, worker: WatchedWorker, timeout: float, told: float
) -> None:
    strategy = strategy_of(model, worker=worker, fraction_evaluate=1.0)
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=1, timeout=timeout)
    instructions = [
        Instructions.from_config(message.content.config_records[INSTRUCTIONS_KEY])
        for message in grid.sent
        if INSTRUCTIONS_KEY in message.content.config_records
    ]
    assert len(instructions) == 6, "three clients that train, and evaluate"
    assert {one.session.round_timeout_seconds for one in instructions} == {told}
    assert {spec.round_timeout_seconds for spec in worker.specs.values()} == {told}
