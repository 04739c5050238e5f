"""Rounds of methods whose clients have the whole model, kept for tests to look at."""

from typing import Any

from flwr.app import Message, MessageType
from flwr.clientapp import ClientApp

from hsplit_flower.adapters import LowRank, from_state_dict
from hsplit_flower.client.app import federated_evaluate, federated_train
from hsplit_flower.server import RoundReport
from hsplit_flower.server.federated_strategy import FederatedStrategy
from hsplit_flower.wire.instructions import INSTRUCTIONS_KEY, Instructions
from tests.reference import methods as reference
from tests.strategies.clients import (
    NODES,
    NUM_EXAMPLES,
    client_app,
    node_configs,
    trained_below,
)
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of

ROOMY = "1,1.3,2"
"""Shares of what the whole model takes with adapters: everybody has room for these."""


def whole_app() -> ClientApp:
    """An app as a user would write it for these methods."""
    return client_app(train_part=federated_train, evaluate_part=federated_evaluate)


class Rounds:
    """Runs a strategy, and keeps of each round what was sent, what came, and what was made."""

    def __init__(self, model: str, method: type[FederatedStrategy], **settings: Any) -> None:
        settings.setdefault("fleet", ROOMY)
        settings.setdefault("min_train_nodes", 1)
        self.reports: list[RoundReport] = []
        self.received: list[list[Message]] = []
        self.states: list[Any] = []
        # What is averaged is tested, not who is believed.
        settings.setdefault("clip_above", 0.0)
        self.strategy = strategy_of(model, method=method, **settings)

    def run(self, num_rounds: int, app: ClientApp | None = None, **options: Any) -> Any:
        """The result of so many rounds."""

        def observe(report: RoundReport) -> None:
            self.reports.append(report)
            self.received.append(list(grid.received))
            self.states.append(self.strategy.state)

        self.strategy.observer = observe
        # Of other runs, which have a worker: nobody asks for it here.
        configs = node_configs(**{"root-certificates": "ca.pem"})
        with LocalGrid(app or whole_app(), configs) as grid:
            result = self.strategy.start(grid, num_rounds=num_rounds, **options)
        self.sent = [m for m in grid.sent if m.metadata.message_type == MessageType.TRAIN]
        return result

    def told(self, server_round: int) -> dict[int, Instructions]:
        """What each client was to do in a round."""
        told = {}
        for message in self.sent:
            if message.content.config_records["config"]["server-round"] == server_round:
                config = message.content.config_records[INSTRUCTIONS_KEY]
                told[message.metadata.dst_node_id] = Instructions.from_config(config)
        return told

    def given(self, server_round: int) -> dict[int, dict[str, LowRank]]:
        """The adapter that each client was sent in a round."""
        return {
            message.metadata.dst_node_id: from_state_dict(
                message.content.array_records["arrays"].to_torch_state_dict()
            )
            for message in self.sent
            if message.content.config_records["config"]["server-round"] == server_round
        }

    def effective(self, at: int, name: str) -> list[reference.Trained]:
        """What the clients of a round sent of a weight, in the order of their partitions."""
        came = trained_below(self.received[at])
        return [
            reference.Trained.of(NUM_EXAMPLES[partition], came[node][name])
            for partition, node in enumerate(NODES)
        ]
