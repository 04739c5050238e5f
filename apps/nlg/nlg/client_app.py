"""The client: its own examples, and functions of hsplit_flower."""

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from hsplit_flower.client.app import (
    describe_device,
    errors_as_replies,
    federated_evaluate,
    federated_train,
    split_evaluate,
    split_train,
)
from hsplit_flower.methods import METHODS
from nlg import task
from nlg.run_config import RunConfig

app = ClientApp(mods=[errors_as_replies])


@app.query()
def query(msg: Message, context: Context) -> Message:
    """Say what this device has, and on how many examples it trains."""
    config = RunConfig.from_run_config(context.run_config)
    num_examples, num_steps = task.num_examples(config, context), config.app.local_steps
    return describe_device(msg, context, num_examples, num_steps=num_steps)


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train this client's half for one round, or the whole model where the method asks for that."""
    config = _configure(context)
    server_round = int(
        msg.content.config_records[config.run.sampling.configrecord_key]["server-round"]
    )
    train_part = split_train if METHODS[config.app.strategy].is_split else federated_train
    return train_part(msg, context, task.training_batches(config, context, server_round))


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Evaluate the global model on this client's share of the dev set."""
    config = _configure(context)
    evaluate_part = split_evaluate if METHODS[config.app.strategy].is_split else federated_evaluate
    return evaluate_part(msg, context, task.evaluation_batches(config, context))


def _configure(context: Context) -> RunConfig:
    config = RunConfig.from_run_config(context.run_config)
    if config.app.client_threads:
        torch.set_num_threads(config.app.client_threads)
    return config
