"""What Flower logs of a run is in our words, once, with the digits that mean something."""

import logging
from collections.abc import Iterator

import pytest
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.common.logger import FLOWER_LOGGER, log
from flwr.serverapp.strategy import Strategy

from benchmarks.tools.threads import ThreadGrid
from hsplit_flower.errors import ConfigError, HSplitError
from hsplit_flower.server.flower_log import ErrorsInWords, errors_in_words, flowers_lines


class Rounds(Strategy):
    """One that does nothing, and has metrics of many digits."""

    def configure_train(self, *_: object) -> list[Message]:
        return []

    def aggregate_train(self, *_: object) -> tuple[ArrayRecord, MetricRecord]:
        return ArrayRecord(), MetricRecord({"train-loss": 3.573987426156086})

    def configure_evaluate(self, *_: object) -> list[Message]:
        return []

    def aggregate_evaluate(self, *_: object) -> MetricRecord:
        return MetricRecord({"loss": 2.0, "perplexity": 7.38905609893065})

    def summary(self) -> None:
        log(logging.INFO, "what it was set to")


def run() -> None:
    grid = ThreadGrid(None, {}, num_threads=1)  # type: ignore[arg-type]
    perplexities = iter([45.67538770203081, 15.184677413722948])
    Rounds().start(
        grid,
        ArrayRecord(),
        num_rounds=1,
        evaluate_fn=lambda number, arrays: MetricRecord({"perplexity": next(perplexities)}),
    )


def test_every_line_of_a_run_is_ours_and_short(flower_log: list[str]) -> None:
    with flowers_lines(rounds_before=3):
        run()
    assert flower_log == [
        "Starting Rounds strategy:",
        "what it was set to",
        "\tbefore training: perplexity 45.68",
        "[ROUND 4/4]",
        "\tevaluated by the clients: perplexity 7.389",
        "\tevaluated by the server: perplexity 15.18",
    ]


def test_afterwards_flower_speaks_as_it_does(flower_log: list[str]) -> None:
    with flowers_lines():
        log(logging.INFO, "Global evaluation")
    run()
    assert flower_log[0] == "Global evaluation", "a line of somebody else's"
    assert "[ROUND 1/1]" in flower_log and "Final results:" in flower_log


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    kept: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    handler, before = Keep(), list(FLOWER_LOGGER.filters)
    FLOWER_LOGGER.addHandler(handler)
    yield kept
    FLOWER_LOGGER.removeHandler(handler)
    FLOWER_LOGGER.filters[:] = before


@pytest.mark.parametrize("error", [ConfigError("say something else"), ZeroDivisionError("ours?")])
def test_an_error_of_ours_comes_without_a_traceback_and_any_other_with_one(
    error: Exception, records: list[logging.LogRecord]
) -> None:
    for each in list(FLOWER_LOGGER.filters):
        FLOWER_LOGGER.removeFilter(each)

    @errors_in_words()
    def main() -> None:
        raise error

    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            main()
        # As Flower does it when an app has ended like this.
        log(logging.ERROR, "%s raised an exception", "ServerApp", exc_info=caught.value)
    is_ours = isinstance(error, HSplitError)
    told = "ServerApp raised an exception" + (": say something else" if is_ours else "")
    assert [record.getMessage() for record in records] == [told] * 2
    assert [record.exc_info is None for record in records] == [is_ours] * 2
    assert sum(isinstance(each, ErrorsInWords) for each in FLOWER_LOGGER.filters) == is_ours
