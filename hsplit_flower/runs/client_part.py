"""What a client of an app does in a round, whatever its data is."""

import torch
from flwr.app import Context, Message

from ..client.app import federated_evaluate, federated_train, split_evaluate, split_train
from ..client.round_setup import Batches
from ..methods import METHODS
from .run_config import RunConfig


def train_part(msg: Message, context: Context, config: RunConfig, batches: Batches) -> Message:
    """Train this client's half for one round, or the whole model where the method asks for that."""
    _set_threads(config)
    train = split_train if METHODS[config.app.strategy].is_split else federated_train
    return train(msg, context, batches)


def evaluate_part(msg: Message, context: Context, config: RunConfig, batches: Batches) -> Message:
    """Evaluate the global model on examples of this client's own."""
    _set_threads(config)
    evaluate = split_evaluate if METHODS[config.app.strategy].is_split else federated_evaluate
    return evaluate(msg, context, batches)


def round_of(msg: Message, config: RunConfig) -> int:
    """The number of the round that a message belongs to."""
    told = msg.content.config_records[config.run.sampling.configrecord_key]
    return int(told["server-round"])  # type: ignore[arg-type]


def _set_threads(config: RunConfig) -> None:
    if config.app.client_threads:
        torch.set_num_threads(config.app.client_threads)
