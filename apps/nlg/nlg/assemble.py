"""From the run-config to the strategy and the evaluation; what cannot work is said here."""

import os
from collections.abc import Callable

from flwr.app import ArrayRecord, MetricRecord

from hsplit_flower.server import ServerEvaluation
from hsplit_flower.server.federated_strategy import FederatedStrategy
from hsplit_flower.settings import OPERATOR_TOKEN_VARIABLE
from hsplit_flower.strategies import STRATEGIES
from nlg import task
from nlg.run_config import RunConfig


def strategy_of(config: RunConfig) -> FederatedStrategy:
    """The method that the run-config names, as it sets it."""
    token = os.environ.get(OPERATOR_TOKEN_VARIABLE, "")
    settings = config.run.replace(worker=config.run.worker.replace(operator_token=token))
    return STRATEGIES[config.app.strategy](**settings.given())


def evaluation_of(
    config: RunConfig,
) -> Callable[[int, ArrayRecord], MetricRecord | None] | None:
    """The server's evaluation on its dev set, if it is wanted."""
    if not config.app.server_evaluation:
        return None
    task.encoded_dev(config)  # says at once what is wrong with it
    return ServerEvaluation(config.run.model, lambda: task.evaluation_batches(config))
