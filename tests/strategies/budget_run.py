"""A run of three clients on parts of what the whole model needs, as tests of budgets want it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from flwr.app import Message, MessageType
from transformers import PretrainedConfig

from hsplit_flower.costs import ModelCosts, Workload
from hsplit_flower.server import RoundReport, round_planner
from hsplit_flower.settings import Training
from hsplit_flower.strategies import HSplitLoRA
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY, Instructions
from tests.strategies.clients import Train, WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import grouped

FLEET = "0.5,0.7,1.0"
ROWS, SEQUENCE = 3, 9


def run(
    model: str,
    worker: WatchedWorker,
    *,
    rounds: int,
    predicted_rows: int = ROWS,
    nodes: dict[int, dict[str, Any]] | None = None,
    before: Callable[[LocalGrid, Message], None] = lambda grid, message: None,
    faults: Mapping[int, Train] | None = None,
    training_seed: int = 0,
    reports: list[RoundReport] | None = None,
    **settings: Any,
) -> tuple[list[RoundReport], list[Message]]:
    """The reports of a run on three nodes, and all messages that were sent.

    What clients need is predicted for so many rows, which may be fewer than they train on.
    """
    reports = [] if reports is None else reports
    values = {
        "fleet": FLEET,
        "min_train_nodes": 1,
        "fraction_evaluate": 0.0,
        "worker_session_rank": 0,
    } | settings
    traced = round_planner.trace_costs

    def predicted(config: PretrainedConfig, workload: Workload) -> ModelCosts:
        return traced(config, replace(workload, batch_size=predicted_rows))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(round_planner, "trace_costs", predicted)
        strategy = HSplitLoRA(
            model,
            Training(batch_size=ROWS, sequence_length=SEQUENCE, seed=training_seed),
            observer=reports.append,
            **grouped(worker=worker, **values),
        )
    grid = LocalGrid(client_app(faults=faults), nodes or node_configs())
    grid._before = lambda message: before(grid, message)
    with grid:
        strategy.start(grid, num_rounds=rounds)
    return reports, grid.sent


def instructions_in(messages: list[Message]) -> list[Instructions]:
    return [
        Instructions.from_config(message.content.config_records[INSTRUCTIONS_KEY])
        for message in messages
        if message.metadata.message_type == MessageType.TRAIN
    ]


def asked_in(reports: list[RoundReport], node: int) -> list[int]:
    """The rounds in which a client was asked to train."""
    return [report.server_round for report in reports if node in report.clients]
