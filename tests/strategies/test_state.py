"""A strategy is what it was made with, and one value: whoever puts that back repeats the round."""

from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord

from hsplit_flower.adapters import LowRank
from hsplit_flower.server.split_strategy import SplitStrategy
from hsplit_flower.server.state import RunState
from hsplit_flower.settings import Planning
from hsplit_flower.strategies import HSplitLoRA, SplitLoRA
from tests.strategies.clients import WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import FEW, MAX_RANK, strategy_of

# What only lives while a round is open.
WITHIN_A_ROUND = {"_open_round"}


def play(strategy: SplitStrategy, grid: LocalGrid, server_round: int) -> RunState:
    """One round as Flower's loop plays it; its replies come in any order."""
    arrays = strategy.state.arrays
    messages = strategy.configure_train(server_round, arrays, ConfigRecord(), grid)
    new, _ = strategy.aggregate_train(server_round, grid.send_and_receive(messages))
    assert new is strategy.state.arrays
    return strategy.state


def assert_same_adapter(got: dict[str, LowRank], wanted: dict[str, LowRank]) -> None:
    assert got.keys() == wanted.keys()
    assert any(update.rank for update in wanted.values())
    for name, update in wanted.items():
        assert torch.equal(got[name].a, update.a), name
        assert torch.equal(got[name].b, update.b), name


RUNS: dict[str, dict[str, Any]] = {
    "hsplit-lora": {"planning": FEW.replace(cooldown_rounds=0, margin=0.0)},
    "with momentum and a cap": {"momentum": 0.5, "mean_rank": 3},
    "in a fleet that changes": {
        "fleet": "0.5,0.7,1",
        "budget_changes": "2:2=0.6",
        "unavailable": (0.0, 0.0, 0.3),
    },
    "split-lora": {"method": SplitLoRA, "planning": Planning(max_rank=MAX_RANK)},
}


@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS)
@pytest.mark.one_in(2)
def test_the_second_round_is_the_same_from_the_state_after_the_first(
    model: str, worker: WatchedWorker, settings: dict[str, Any]
) -> None:
    strategy = strategy_of(model, worker=worker, **settings)
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=0)
        after_first = play(strategy, grid, 1)
        kept = dict(vars(strategy))
        after_second = play(strategy, grid, 2)
        different = {name for name, value in vars(strategy).items() if value is not kept[name]}
        assert different - WITHIN_A_ROUND == {"state"}
        after_third = play(strategy, grid, 3)
        assert after_third.method is not after_second.method

        strategy.state = after_first
        again = play(strategy, grid, 2)
    assert_same_adapter(dict(again.method.updates), dict(after_second.method.updates))
    assert again.standing is not None
    assert again.standing == after_second.standing
    assert again.corrections == after_second.corrections
    assert again.devices == after_second.devices


def test_another_strategy_goes_on_from_the_state_of_the_first(
    model: str, worker: WatchedWorker
) -> None:
    first, second = (strategy_of(model, worker=worker, momentum=0.5) for _ in range(2))
    assert isinstance(second, HSplitLoRA)
    with LocalGrid(client_app(), node_configs()) as grid:
        for strategy in (first, second):
            strategy.start(grid, num_rounds=0)
        after_first = play(first, grid, 1)
        wanted = play(first, grid, 2)
        second.state = after_first
        got = play(second, grid, 2)
        queries = [m for m in grid.sent if m.metadata.message_type == "query"]
    assert_same_adapter(dict(got.method.updates), dict(wanted.method.updates))
    assert len(queries) == len(node_configs()), "it knows what they have said to the other"
