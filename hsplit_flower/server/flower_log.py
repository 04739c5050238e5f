"""Flower's own lines of a run, said in this library's words, or not where these say it already.

Flower's ``Strategy.start`` logs what it was given and every metric with all its digits; whoever
runs an app logs a traceback above the error that ended it. What is not known here passes unchanged.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, final

from flwr.common.logger import FLOWER_LOGGER

from ..errors import HSplitError

Words = Callable[..., str | None]


def _nothing(*args: object) -> None:
    return None


def _measured(what: str) -> Words:
    """Of an evaluation, the perplexity, or the loss where there is none."""

    def told(metrics: Mapping[str, Any] | None) -> str | None:
        for name, form in (("perplexity", ".4g"), ("loss", ".3f")):
            if metrics is not None and name in metrics:
                return f"\t{what}: {name} {metrics[name]:{form}}"
        return None

    return told


def _aggregated(metrics: Mapping[str, Any]) -> str | None:
    """That of training is in the round's table."""
    return _measured("evaluated by the clients")(metrics) if "perplexity" in metrics else None


@final
class FlowersLines(logging.Filter):
    """Changes what Flower says of a run's rounds.

    Parameters
    ----------
    rounds_before
        Of the run, before Flower's first.
    """

    FILES = ("strategy.py", "strategy_utils.py")

    def __init__(self, *, rounds_before: int = 0) -> None:
        super().__init__()
        self._words: dict[str, Words] = {
            "": _nothing,
            "[ROUND %s/%s]": lambda number, last: (
                f"[ROUND {number + rounds_before}/{last + rounds_before}]"
            ),
            "Initial global evaluation results: %s": _measured("before training"),
            "Global evaluation": _nothing,
            "\t└──> MetricRecord: %s": _measured("evaluated by the server"),
            "\t└──> Aggregated MetricRecord: %s": _aggregated,
            "Strategy execution finished in %.2fs": _nothing,
            "Final results:": _nothing,
            "\t%s": _nothing,
        }

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown, as it is or in other words."""
        path = PurePath(record.pathname)
        if path.name not in self.FILES or path.parent.parts[-2:] != ("serverapp", "strategy"):
            return True
        if record.funcName == "log_strategy_start_info":
            return False
        words = self._words.get(str(record.msg))
        if words is None:
            return True
        # A record of metrics alone is taken for names and values of a template.
        args = record.args if isinstance(record.args, tuple) else (record.args,)
        told = words(*args)
        record.msg, record.args = told or "", ()
        return told is not None


@final
class ErrorsInWords(logging.Filter):
    """Takes the traceback off an error that was raised on purpose: its words say what to do."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shows every record."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, HSplitError):
            record.msg, record.args = "%s: %s", (record.getMessage(), error)
            record.exc_info = record.exc_text = None
        return True


@contextmanager
def flowers_lines(*, rounds_before: int = 0) -> Iterator[None]:
    """Meanwhile Flower's lines of rounds are in our words.

    Parameters
    ----------
    rounds_before
        Of the run, before Flower's first.
    """
    changed = FlowersLines(rounds_before=rounds_before)
    FLOWER_LOGGER.addFilter(changed)
    try:
        yield
    finally:
        FLOWER_LOGGER.removeFilter(changed)


@contextmanager
def errors_in_words() -> Iterator[None]:
    """An error of ours that ends what is inside is told without the traceback that led there.

    Flower logs it after this is left, from wherever it runs the app.
    """
    try:
        yield
    except HSplitError:
        if not any(isinstance(known, ErrorsInWords) for known in FLOWER_LOGGER.filters):
            FLOWER_LOGGER.addFilter(ErrorsInWords())
        raise
