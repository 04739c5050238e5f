"""Bytes through Flower are those of the messages as Flower serialises them."""

from dataclasses import dataclass, field

import pytest
from flwr.app import Message, MessageType, RecordDict
from flwr.common.serde import recorddict_to_proto

from hsplit_flower.server import EvaluationReport, RoundReport
from hsplit_flower.server.message_bytes import content_bytes
from tests.strategies.clients import NODES, WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of


@dataclass
class Told:
    """What a run's reports say."""

    trained: list[RoundReport] = field(default_factory=list)
    evaluated: list[EvaluationReport] = field(default_factory=list)


def serialised(message: Message) -> int:
    return int(recorddict_to_proto(message.content).ByteSize())


def test_a_rounds_bytes_are_its_messages_to_a_hundredth(model: str, worker: WatchedWorker) -> None:
    told = Told()
    strategy = strategy_of(
        model, worker=worker, observer=told.trained.append, fleet="", fraction_evaluate=1.0
    )
    strategy.evaluation_observer = told.evaluated.append
    with LocalGrid(client_app(), node_configs(**{"memory-gb": 1.0, "flops": 1e9})) as grid:
        strategy.start(grid, num_rounds=1)
        down = {
            (message.metadata.message_type, message.metadata.dst_node_id): serialised(message)
            for message in grid.sent
        }
        replies = {message.metadata.src_node_id: message for message in grid.received}
    (trained,), (evaluated,) = told.trained, told.evaluated
    for node in NODES:
        for report, kind in ((trained, MessageType.TRAIN), (evaluated, MessageType.EVALUATE)):
            client = report.clients[node]
            assert client.flower_down_bytes == pytest.approx(down[kind, node], rel=0.01)
        up_bytes = evaluated.clients[node].flower_up_bytes
        assert up_bytes == pytest.approx(serialised(replies[node]), rel=0.01)
        assert trained.clients[node].flower_up_bytes > 1000


def test_of_an_error_its_words_are_counted() -> None:
    with LocalGrid(client_app(), node_configs()) as grid:
        question = Message(RecordDict(), message_type=MessageType.TRAIN, dst_node_id=NODES[0])
        (answer,) = grid.send_and_receive([question])
    assert answer.has_error() and content_bytes(answer) == len(answer.error.reason) > 0
