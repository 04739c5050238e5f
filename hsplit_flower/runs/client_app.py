"""The client of an app: what its rows are is the app's own, all else is here."""

from typing import Protocol, TypeVar

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from ..client.app import (
    describe_device,
    errors_as_replies,
    federated_evaluate,
    federated_train,
    personal_steps,
    split_evaluate,
    split_train,
)
from ..client.round_setup import Batches
from ..methods import METHODS
from .run_config import RunConfig

Config = TypeVar("Config", bound=RunConfig)
ConfigOf = TypeVar("ConfigOf", bound=RunConfig, contravariant=True)


class ClientData(Protocol[ConfigOf]):
    """An app's module, or an object, that knows what each client trains and measures on."""

    def num_examples(self, config: ConfigOf, context: Context) -> int:
        """How many examples this client trains on."""

    def num_steps(self, config: ConfigOf, context: Context) -> int:
        """How many optimizer steps this client takes in a round."""

    def training_batches(
        self, config: ConfigOf, context: Context, server_round: int, *, num_steps: int
    ) -> Batches:
        """One round's batches for so many steps, other ones each round."""

    def evaluation_batches(self, config: ConfigOf, context: Context) -> Batches:
        """One pass over what this client measures on."""


def client_app(data: ClientData[Config], config_type: type[Config]) -> ClientApp:
    """The ClientApp whose clients have this data.

    Parameters
    ----------
    data
        The app's own.
    config_type
        What the app's run-config is read as.
    """
    app = ClientApp(mods=[errors_as_replies])

    @app.query()
    def query(msg: Message, context: Context) -> Message:
        """Say what this device has, and on how many examples it trains."""
        config = config_type.from_run_config(context.run_config)
        num_examples = data.num_examples(config, context)
        num_steps = data.num_steps(config, context)
        return describe_device(msg, context, num_examples, num_steps=num_steps)

    @app.train()
    def train(msg: Message, context: Context) -> Message:
        """Train this client's part of the model for one round."""
        config = config_type.from_run_config(context.run_config)
        steps = personal_steps(msg) or data.num_steps(config, context)
        batches = data.training_batches(config, context, _round_of(msg, config), num_steps=steps)
        _set_threads(config)
        train_part = split_train if _is_split(config) else federated_train
        return train_part(msg, context, batches)

    @app.evaluate()
    def evaluate(msg: Message, context: Context) -> Message:
        """Evaluate the global model on examples of this client's own."""
        config = config_type.from_run_config(context.run_config)
        batches = data.evaluation_batches(config, context)
        _set_threads(config)
        evaluate_part = split_evaluate if _is_split(config) else federated_evaluate
        return evaluate_part(msg, context, batches)

    return app


def _round_of(msg: Message, config: RunConfig) -> int:
    """The number of the round that a message belongs to."""
    told = msg.content.config_records[config.run.sampling.configrecord_key]
    return int(told["server-round"])  # type: ignore[arg-type]


def _is_split(config: RunConfig) -> bool:
    """Whether clients have a half each; otherwise each has the whole model."""
    return METHODS[config.app.strategy].is_split


def _set_threads(config: RunConfig) -> None:
    if config.app.client_threads:
        torch.set_num_threads(config.app.client_threads)
