"""From the run-config to the strategy and the evaluation; what cannot work is said here."""

from collections.abc import Callable

from flwr.app import ArrayRecord, MetricRecord

from hsplit_flower.server import ServerEvaluation
from hsplit_flower.server.federated_strategy import FederatedStrategy
from hsplit_flower.strategies import STRATEGIES
from nlg import task
from nlg.run_config import RunConfig


def strategy_of(config: RunConfig, *, is_deployed: bool = False) -> FederatedStrategy:
    """The method that the run-config names, as it sets it.

    Simulated clients have the devices of a fleet, also where none is named. Deployed ones have what
    they say.
    """
    settings = config.run
    if not is_deployed:
        settings = settings.replace(simulation=settings.simulation.with_fleet())
    return STRATEGIES[config.app.strategy](**settings.given())


def evaluation_of(
    config: RunConfig,
) -> Callable[[int, ArrayRecord], MetricRecord | None] | None:
    """The server's evaluation on its dev set, if it is wanted."""
    if not config.app.server_evaluation:
        return None
    task.encoded_dev(config)  # says at once what is wrong with it
    return ServerEvaluation(config.run.model, lambda: task.evaluation_batches(config))
