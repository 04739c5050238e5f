"""What is sent in a round, to whom, and under which keys."""

import pytest
from flwr.app import ConfigRecord, Message, MessageType

from hsplit_flower.adapters import (
    from_state_dict,
)
from hsplit_flower.errors import HSplitError
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY, Instructions
from tests.strategies.clients import (
    NODES,
    NUM_EXAMPLES,
    WatchedWorker,
    client_app,
    node_configs,
)
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of


def test_every_client_is_told_its_own_part_and_no_more(model: str, worker: WatchedWorker) -> None:
    strategy = strategy_of(model, worker=worker)
    config = ConfigRecord({"mine": 3})
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=2, train_config=config)
    told = [m for m in grid.sent if m.metadata.message_type == MessageType.TRAIN]
    assert [m.content.config_records["config"]["server-round"] for m in told] == [1] * 3 + [2] * 3
    assert config == ConfigRecord({"mine": 3}), "the caller's record is left as it was"
    for message in told:
        assert message.content.config_records["config"]["mine"] == 3
        told_to = Instructions.from_config(message.content.config_records[INSTRUCTIONS_KEY])
        received = from_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
        assert all(int(name.split(".")[2]) < told_to.session.cut for name in received)
        assert told_to.num_examples == NUM_EXAMPLES[NODES.index(message.metadata.dst_node_id)]
    tokens = [
        Instructions.from_config(message.content.config_records[INSTRUCTIONS_KEY]).token
        for message in told
    ]
    assert len(set(tokens)) == len(tokens)


def test_nodes_are_asked_once_what_they_have(model: str, worker: WatchedWorker) -> None:
    strategy = strategy_of(model, worker=worker, fraction_evaluate=1.0)
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=2)
    kinds = [message.metadata.message_type for message in grid.sent]
    assert kinds.count(MessageType.QUERY) == 3
    assert kinds.count(MessageType.TRAIN) == kinds.count(MessageType.EVALUATE) == 6


def test_keys_of_the_users_choice(model: str, worker: WatchedWorker) -> None:
    strategy = strategy_of(
        model, worker=worker, arrayrecord_key="adapter", configrecord_key="settings"
    )
    seen: list[str] = []

    def stop_at_training(message: Message) -> None:
        if message.metadata.message_type == MessageType.TRAIN:
            seen.extend(message.content)

    # The app of these tests reads "config": its clients fail, which is not the point here.
    failed = pytest.raises(HSplitError, match="nothing was learnt")
    with LocalGrid(client_app(), node_configs(), before=stop_at_training) as grid, failed:
        strategy.start(grid, num_rounds=1)
    assert set(seen) == {"adapter", "settings", INSTRUCTIONS_KEY}


@pytest.mark.parametrize(
    ("fraction", "least", "wanted"), [(1.0, 1, 3), (0.67, 1, 2), (0.3, 1, 1), (0.3, 2, 2)]
)
def test_sampling(
    model: str, worker: WatchedWorker, fraction: float, least: int, wanted: int
) -> None:
    strategy = strategy_of(
        model,
        worker=worker,
        fleet="0.6,0.8,1",
        fraction_train=fraction,
        fraction_evaluate=fraction,
        min_train_nodes=least,
        min_evaluate_nodes=least,
    )
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(grid, num_rounds=1)
    for kind in (MessageType.TRAIN, MessageType.EVALUATE):
        nodes = [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == kind]
        assert len(nodes) == len(set(nodes)) == wanted


def test_nobody_trains_or_evaluates_where_the_fraction_is_zero(
    model: str, worker: WatchedWorker
) -> None:
    strategy = strategy_of(model, worker=worker, fraction_train=0.0)
    with LocalGrid(client_app(), node_configs()) as grid:
        result = strategy.start(grid, num_rounds=1)
    assert not grid.sent
    assert not result.train_metrics_clientapp
