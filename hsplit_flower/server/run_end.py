"""How a run ended: one that has brought nothing, or has lost its worker, has failed."""

from flwr.serverapp.strategy import Result

from ..errors import HSplitError, WorkerUnavailableError
from ..settings import RunSettings
from .sessions import Sessions


def check_end(result: Result, num_rounds: int, settings: RunSettings, sessions: Sessions) -> None:
    """See that a run that has come to its end is one to go by.

    Parameters
    ----------
    result
        Flower's, with the metrics of every round that counts.
    num_rounds
        That were to be run, counted from 1.
    settings
        Of the run.
    sessions
        Of its last round.

    Raises
    ------
    HSplitError
        If no round of training was completed, of a run that was to have one.
    WorkerUnavailableError
        If the last one was not, and there is no worker any more: it is why.
    """
    if not settings.sampling.fraction_train or num_rounds < 1:
        return
    completed = result.train_metrics_clientapp
    if num_rounds not in completed:
        try:
            sessions.check_alive()
        except WorkerUnavailableError as error:
            raise WorkerUnavailableError(
                f"{len(completed)} of {num_rounds} rounds completed, and the split worker is gone: "
                f"{error}"
            ) from error
    if not completed:
        raise HSplitError(
            f"0 of {num_rounds} rounds completed: nothing was learnt. What became of each round "
            "and client is in the log above"
        )
