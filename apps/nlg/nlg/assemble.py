"""The server's evaluation; what cannot be read of its examples is said here."""

from hsplit_flower.runs.federation import Evaluation
from hsplit_flower.server import ServerEvaluation
from nlg import task
from nlg.run_config import RunConfig


def evaluation_of(config: RunConfig) -> Evaluation | None:
    """The server's evaluation on its dev set, if it is wanted."""
    if not config.app.server_evaluation:
        return None
    task.encoded_dev(config)  # says at once what is wrong with it
    return ServerEvaluation(config.run.model, lambda: task.evaluation_batches(config))
