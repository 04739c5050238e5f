"""A line that moves while a round runs."""

import threading
import time
from collections.abc import Callable
from logging import INFO

from flwr.common.logger import log

from ..errors import HSplitError

BAR_WIDTH = 24


class Progress:
    """Logs how far a round is, every few seconds, from a thread of its own.

    Parameters
    ----------
    steps_done
        Steps that all clients of the round have done together.
    interval_seconds
        How often to look; nothing is logged where nothing has moved.
    """

    def __init__(self, steps_done: Callable[[], int], *, interval_seconds: float = 5.0) -> None:
        self._steps_done = steps_done
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, server_round: int, *, expected_steps: int | None) -> None:
        """Watch a round; without ``expected_steps`` there is a count but no bar."""
        self.stop()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._watch,
            args=(server_round, expected_steps, self._stopping),
            name="round-progress",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(
        self, server_round: int, expected_steps: int | None, stopping: threading.Event
    ) -> None:
        started, last = time.perf_counter(), 0
        while not stopping.wait(self._interval_seconds):
            try:
                done = self._steps_done()
            except HSplitError:
                continue
            if done != last:
                seconds = time.perf_counter() - started
                log(INFO, "\tround %s %s %.0f s", server_round, bar(done, expected_steps), seconds)
                last = done


def bar(done: int, expected: int | None) -> str:
    """``[######------] 10/20 steps``; without an expectation, ``10 steps``."""
    if not expected:
        return f"{done} steps"
    filled = min(BAR_WIDTH, BAR_WIDTH * done // expected)
    return f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {done}/{expected} steps"
