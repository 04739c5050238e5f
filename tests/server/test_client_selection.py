"""Who takes part: others, where those who were sampled cannot."""

import random
from collections import Counter

import pytest
from flwr.app import Context, Message, MessageType

from hsplit_flower.devices.source import ReportedDevices
from hsplit_flower.server import RoundReport
from hsplit_flower.server.client_selection import ClientSelection, sample
from hsplit_flower.server.state import RunState
from hsplit_flower.settings import Model
from tests.server.rounds import planner_of
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
    planner = planner_of()
    selection = ClientSelection(planner, ReportedDevices(), least_available=1, model=Model())
    state = RunState.fresh(planner.costs.weights)
    with LocalGrid(app, nodes) as grid:
        for server_round in range(1, num_rounds + 1):
            chosen = selection.select(grid, state, server_round, fraction=0.0, least=1)
            assert set(chosen.clients) == {FIT}
            state = chosen.state
    asked = Counter(message.metadata.dst_node_id for message in grid.sent)
    assert asked[FIT] == 1
    # Whoever is sampled is asked; as stand-ins each of them is at most once.
    assert sum(asked.values()) <= 1 + (len(nodes) - 1) + num_rounds


def test_nodes_that_are_away_are_never_sampled() -> None:
    for _ in range(20):
        nodes = sample(range(10), size=5, least=2, away={0, 3, 4})
        assert len(set(nodes)) == 5
        assert not set(nodes) & {0, 3, 4}


def test_as_many_as_are_there_are_sampled() -> None:
    assert sorted(sample([5, 6, 7, 8], size=4, least=2, away={6})) == [5, 7, 8]


def test_a_round_that_could_not_count_is_not_begun(flower_log: list[str]) -> None:
    assert sample([5, 6, 7], size=3, least=2, away={6, 7}) == []
    assert any("Only 1 of 3 nodes are there, 2 are wanted" in line for line in flower_log)
