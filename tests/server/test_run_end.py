"""A run that has brought nothing, or has lost its worker, ends as failed."""

import pytest
from flwr.app import MetricRecord
from flwr.serverapp.strategy import Result

from hsplit_flower.errors import HSplitError, WorkerUnavailableError
from hsplit_flower.server.run_end import check_end
from hsplit_flower.server.sessions import NoSessions
from hsplit_flower.settings import Model, RunSettings, Sampling

SETTINGS = RunSettings(model=Model())


class Gone(NoSessions):
    """The sessions of a worker that has died."""

    def check_alive(self) -> None:
        raise WorkerUnavailableError("nobody answers")


THERE, GONE = (kind(model="m", dtype="float32") for kind in (NoSessions, Gone))


def result(*completed: int) -> Result:
    made = Result()
    made.train_metrics_clientapp = {number: MetricRecord() for number in completed}
    return made


def test_a_run_that_has_brought_something_is_one_to_go_by() -> None:
    check_end(result(1, 2, 3), 3, SETTINGS, THERE)
    check_end(result(1, 2), 3, SETTINGS, THERE)
    check_end(result(1, 2, 3), 3, SETTINGS, GONE)


def test_a_run_of_which_no_round_was_completed_has_failed() -> None:
    with pytest.raises(HSplitError, match="0 of 3 rounds completed: nothing was learnt"):
        check_end(result(), 3, SETTINGS, THERE)


def test_a_run_whose_worker_is_gone_at_its_end_has_failed() -> None:
    with pytest.raises(
        WorkerUnavailableError, match=r"2 of 3 rounds completed, .*worker is gone: nobody answers"
    ):
        check_end(result(1, 2), 3, SETTINGS, GONE)


def test_a_run_that_only_evaluates_has_nothing_to_complete() -> None:
    evaluating = SETTINGS.replace(sampling=Sampling(fraction_train=0.0))
    check_end(result(), 3, evaluating, GONE)
