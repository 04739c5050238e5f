"""Clients whose link to a worker that lives is cut for longer than they try."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from flwr.app import Context, Message, MessageType

from hsplit_flower.adapters import LowRank
from hsplit_flower.client.app import split_evaluate, split_train
from hsplit_flower.errors import WorkerUnavailableError
from hsplit_flower.server import RoundReport
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY, Instructions
from tests.strategies.bad_client import BAD, BAD_NODE, strategy_of
from tests.strategies.clients import NAMES, NODES, Batches, WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid

POOL: dict[str, Any] = {"placement": "ray"}
WHY = "the split worker was tried 5 times: no route to host"


class CutLink:
    """Loses its clients the worker so many times, each after so many batches have gone through."""

    def __init__(self, times: int, *, after: int = 1) -> None:
        self.asked: Counter[int] = Counter()
        self._times = times
        self._after = after

    def train(self, msg: Message, context: Context, some: Batches) -> Message:
        return split_train(msg, context, self._cut(context, some))

    def evaluate(self, msg: Message, context: Context, some: Batches) -> Message:
        return split_evaluate(msg, context, self._cut(context, some))

    def _cut(self, context: Context, some: Batches) -> Iterator[Any]:
        self.asked[context.node_id] += 1
        for number, batch in enumerate(some):
            if number == self._after and self.asked[context.node_id] <= self._times:
                raise WorkerUnavailableError(WHY)
            yield batch


def learnt(
    model: str, worker: WatchedWorker, link: CutLink, **settings: Any
) -> tuple[dict[str, LowRank], RoundReport, list[float]]:
    """The adapter after a round of which one client's link is cut, and how patient it was told."""
    reports: list[RoundReport] = []
    strategy = strategy_of(model, worker, observer=reports.append, **settings)
    with LocalGrid(client_app(faults={BAD: link.train}), node_configs()) as grid:
        strategy.start(grid, num_rounds=1)
    told = [
        Instructions.from_config(each.content.config_records[INSTRUCTIONS_KEY])
        for each in grid.sent
        if each.metadata.message_type == MessageType.TRAIN and each.metadata.dst_node_id == BAD_NODE
    ]
    return dict(strategy.adapter.updates), reports[0], [one.link.patience_seconds for one in told]


def test_a_pools_client_begins_the_round_anew_and_tries_for_longer(
    model: str, worker: WatchedWorker, flower_log: list[str]
) -> None:
    wanted, _, _ = learnt(model, worker, CutLink(0), **POOL)
    got, report, patience = learnt(model, worker, CutLink(1), **POOL)
    assert report.clients[BAD_NODE].dropped is None
    assert not report.moved
    assert patience == [10.0, 120.0]
    assert any(f"clients {NAMES[BAD_NODE]} did not get through" in line for line in flower_log)
    for name, update in wanted.items():
        assert torch.equal(got[name].b, update.b)
        assert torch.equal(got[name].a, update.a)


@pytest.mark.parametrize(
    ("times", "settings", "patience"),
    [
        (2, POOL, [10.0, 120.0]),
        (1, {**POOL, "patience_seconds": 7.0}, [7.0]),
        (1, {}, [120.0]),
    ],
    ids=["a second time", "as long as it was told", "where there is one worker"],
)
def test_then_it_is_left_out(
    model: str,
    worker: WatchedWorker,
    times: int,
    settings: dict[str, Any],
    patience: list[float],
) -> None:
    _, report, told = learnt(model, worker, CutLink(times), **settings)
    assert WHY in str(report.clients[BAD_NODE].dropped)
    assert told == patience


def test_nobody_is_asked_again_where_nobodys_bytes_have_come(
    model: str, worker: WatchedWorker
) -> None:
    """Their address is wrong: that is to be found soon."""
    link = CutLink(9, after=0)
    strategy = strategy_of(model, worker, **POOL)
    app = client_app(train_part=link.train)
    with LocalGrid(app, node_configs()) as grid, pytest.raises(WorkerUnavailableError):
        strategy.start(grid, num_rounds=1)
    assert link.asked == dict.fromkeys(NODES, 1)


def test_an_evaluation_begins_anew_too(model: str, worker: WatchedWorker) -> None:
    losses = []
    for times in (0, 1):
        link = CutLink(times)
        strategy = strategy_of(model, worker, fraction_evaluate=1.0, **POOL)
        with LocalGrid(client_app(evaluate_part=link.evaluate), node_configs()) as grid:
            evaluated = strategy.start(grid, num_rounds=1).evaluate_metrics_clientapp[1]
        assert evaluated["num-clients"] == len(NODES)
        assert link.asked == dict.fromkeys(NODES, 1 + times)
        losses.append(evaluated["loss"])
    assert losses[0] == losses[1]
