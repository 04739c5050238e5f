"""Who takes part: others, where those who were sampled cannot."""

import random
from collections import Counter

import pytest
from flwr.app import Context, Message, MessageType

from hsplit_flower.server import RoundReport
from hsplit_flower.server.client_selection import ClientSelection
from tests.server.test_round_planner import planner_of
from tests.strategies.clients import NODES, WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of

FIT = NODES[0]


@pytest.mark.parametrize("seed", range(3))
def test_others_take_the_place_of_sampled_clients_that_do_not_fit(
    model: str, worker: WatchedWorker, seed: int
) -> None:
    random.seed(seed)
    reports: list[RoundReport] = []
    strategy = strategy_of(
        model,
        worker=worker,
        observer=reports.append,
        fleet="0.5,0.01,0.01",
        fraction_train=0.3,
        fraction_evaluate=0.3,
        min_train_nodes=1,
        min_evaluate_nodes=1,
    )
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=3)
    assert [set(report.clients) for report in reports] == [{FIT}] * 3
    asked = [
        message.metadata.dst_node_id
        for message in grid.sent
        if message.metadata.message_type == MessageType.EVALUATE
    ]
    assert asked == [FIT] * 3


def test_strangers_that_do_not_answer_are_not_asked_again_and_again() -> None:
    app = client_app()
    healthy = app._registered_funcs["query.default"]

    def query(msg: Message, context: Context) -> Message:
        if context.node_id != FIT:
            raise RuntimeError("no idea what this machine has")
        return healthy(msg, context)

    app._registered_funcs["query.default"] = query
    (config, *_) = node_configs(**{"flops": 1e10, "memory-gb": 1.0}).values()
    nodes = {FIT: config, **{node: config for node in range(100, 130)}}
    num_rounds = 20
    selection = ClientSelection(planner_of(), 1)
    with LocalGrid(app, nodes) as grid:
        for server_round in range(1, num_rounds + 1):
            members = selection.members(grid, server_round, fraction=0.0, least=1)
            assert set(members) == {FIT}
    asked = Counter(message.metadata.dst_node_id for message in grid.sent)
    assert asked[FIT] == 1
    # Whoever is sampled is asked; as stand-ins each of them is at most once.
    assert sum(asked.values()) <= 1 + (len(nodes) - 1) + num_rounds
