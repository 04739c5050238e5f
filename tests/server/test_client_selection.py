"""Who takes part: drawn by name, and others where those who were sampled cannot."""

from collections import Counter
from collections.abc import Sequence

import pytest
from flwr.app import Context, Message, MessageType

from hsplit_flower.devices.source import ReportedDevices
from hsplit_flower.names import ClientNames
from hsplit_flower.server import RoundReport
from hsplit_flower.server.client_selection import ClientSelection, in_drawn_order, sample
from hsplit_flower.server.resumption import reunited
from hsplit_flower.server.state import RunState
from hsplit_flower.settings import Model
from tests.server.rounds import planner_of
from tests.strategies.clients import NODES, WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of, training

FIT = NODES[0]
MANY = 40
# Two starts of Flower: node ids, each client's by its place.
STARTS = ([10_000 + 7 * place for place in range(MANY)], [99_991 * (MANY - p) for p in range(MANY)])


def drawn(
    nodes: Sequence[int], *, seed: int = 3, server_round: int = 5, trains: bool = True
) -> list[str]:
    """The names of the clients behind these nodes, in the order in which a round takes them."""
    names = ClientNames(by_client={node: f"clinic-{place}" for place, node in enumerate(nodes)})
    listed = sorted(nodes, key=str)
    order = in_drawn_order(listed, names, seed=seed, server_round=server_round, trains=trains)
    backwards = in_drawn_order(
        listed[::-1], names, seed=seed, server_round=server_round, trains=trains
    )
    assert order == backwards
    return [names.of(node) for node in order]


def test_who_is_drawn_follows_from_names_and_not_from_ids_of_nodes() -> None:
    first, second = STARTS
    assert sorted(first) == first and sorted(second) != second
    assert drawn(first) == drawn(second)


def test_each_round_seed_and_purpose_draws_for_itself() -> None:
    nodes = STARTS[0]
    orders = [
        drawn(nodes),
        drawn(nodes, server_round=6),
        drawn(nodes, seed=4),
        drawn(nodes, trains=False),
    ]
    for place, one in enumerate(orders):
        for other in orders[:place]:
            # Chance would put one of forty in its place.
            assert sum(a == b for a, b in zip(one, other, strict=True)) < 8


def test_who_comes_or_goes_changes_no_other_ones_place() -> None:
    nodes = STARTS[0]
    assert drawn(nodes[:-1]) == [name for name in drawn(nodes) if name != f"clinic-{MANY - 1}"]


def test_each_client_is_drawn_as_often_as_any_other() -> None:
    nodes, rounds = STARTS[0], 1000
    taken = Counter(
        name for number in range(rounds) for name in drawn(nodes, server_round=number)[: MANY // 4]
    )
    # Five standard deviations of a count of mean 250.
    assert all(abs(taken[f"clinic-{place}"] - rounds / 4) < 70 for place in range(MANY))


def test_a_run_that_goes_on_samples_whom_it_would_have_sampled() -> None:
    """On nodes with other ids, of which nobody was known when the run began."""
    (config, *_) = node_configs(**{"flops": 1e10, "memory-gb": 1.0}).values()
    planner = planner_of()
    selection = ClientSelection(
        planner, ReportedDevices(), least_available=1, model=Model(), seed=3
    )

    def sampled(grid: LocalGrid, state: RunState, server_round: int) -> tuple[set[str], RunState]:
        chosen = selection.select(grid, state, server_round, fraction=0.1, least=1)
        return {chosen.state.clients.names.of(node) for node in chosen.clients}, chosen.state

    def started(nodes: Sequence[int]) -> LocalGrid:
        named = {node: {**config, "name": f"clinic-{place}"} for place, node in enumerate(nodes)}
        return LocalGrid(client_app(), dict(sorted(named.items())))

    with started(STARTS[0]) as grid:
        first, left = sampled(grid, RunState.fresh(planner.costs.weights), 1)
        second, _ = sampled(grid, left, 2)
        assert len(grid.sent) == MANY, "each is asked once"
    with started(STARTS[1]) as grid:
        again, _ = sampled(grid, reunited(left, selection.met(grid, left)), 2)
        anew, _ = sampled(grid, RunState.fresh(planner.costs.weights), 1)
    assert (first, second) == (anew, again)
    assert len(first) == len(second) == MANY // 10 and first != second


@pytest.mark.parametrize("seed", range(3))
def test_others_take_the_place_of_sampled_clients_that_do_not_fit(
    model: str, worker: WatchedWorker, seed: int
) -> None:
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
        training=training(seed=seed),
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
    selection = ClientSelection(
        planner, ReportedDevices(), least_available=1, model=Model(), seed=0
    )
    state = RunState.fresh(planner.costs.weights)
    with LocalGrid(app, nodes) as grid:
        for server_round in range(1, num_rounds + 1):
            chosen = selection.select(grid, state, server_round, fraction=0.0, least=1)
            assert set(chosen.clients) == {FIT}
            state = chosen.state
    asked = Counter(message.metadata.dst_node_id for message in grid.sent)
    assert asked[FIT] == 1
    # All are asked once, and again who is sampled and has not answered.
    assert len(nodes) < sum(asked.values()) <= len(nodes) + num_rounds - 1


def test_nodes_that_are_away_are_never_sampled() -> None:
    assert sample([4, 7, 0, 9, 3, 1, 8], size=3, least=2, away={0, 3, 4}) == [7, 9, 1]


def test_as_many_as_are_there_are_sampled() -> None:
    assert sample([5, 6, 7, 8], size=4, least=2, away={6}) == [5, 7, 8]


def test_a_round_that_could_not_count_is_not_begun(flower_log: list[str]) -> None:
    assert sample([5, 6, 7], size=3, least=2, away={6, 7}) == []
    assert any("Only 1 of 3 nodes are there, 2 are wanted" in line for line in flower_log)
