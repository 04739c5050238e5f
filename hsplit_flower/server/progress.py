"""A bar for a round that is under way: it moves where there is a terminal, else it is few lines."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from logging import INFO
from typing import TextIO, final

from flwr.app import Message
from flwr.common.logger import log
from flwr.serverapp import Grid
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..errors import HSplitError
from ..sizes import bar
from ..wire.work_done import WorkDone
from .round import OpenRound
from .round_steps import Pace, RoundSteps, at_the_end, under_way
from .terminal import terminal

LOOK_SECONDS = 2.0
STILL_SECONDS, MOST_STILL_SECONDS = 60.0, 600.0
"""After how long without a line there is one, although the round is where it was: twice as long
after each, up to the second, so that a long round is no long log.
"""


class Progress:
    """Looks how far a round is, every few seconds, from a thread of its own, and shows it.

    Parameters
    ----------
    look
        What the workers have done so far; None where there is no worker to ask.
    interval_seconds
        How often to look.
    """

    def __init__(
        self, look: Callable[[], WorkDone] | None = None, *, interval_seconds: float = LOOK_SECONDS
    ) -> None:
        self._look = look
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._round = self._first = RoundSteps(server_round=0, names={})
        self._first_seconds = 0.0

    def start(self, opened: OpenRound, *, steps_per_client: int = 0) -> None:
        """Watch a round.

        Parameters
        ----------
        opened
            Its messages are written.
        steps_per_client
            That a client took in the last round, which counts for those that do not say how many
            they will take; 0 where there was none.
        """
        self.stop()
        self._round = self._first = RoundSteps(
            server_round=opened.server_round,
            names={node: opened.names.of(node) for node in opened.tasks},
            expected={
                node: task.client.num_steps or steps_per_client
                for node, task in opened.tasks.items()
            },
        )
        self._first_seconds = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, args=(self._stopping,), name="round-progress", daemon=True
        )
        self._thread.start()

    def stop(self, replies: Iterable[Message] = ()) -> None:
        """Stop watching; the bar is full, as nobody is waited for any more.

        The replies are all that came: a grid of one's own may have handed them over unnoticed.
        """
        for reply in replies:
            self.answered(reply)
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def answered(self, message: Message) -> None:
        """Take notice of a client's reply."""
        client, is_result = message.metadata.src_node_id, not message.has_error()
        with self._lock:
            self._round = self._round.with_answer(client, is_result=is_result)

    @contextmanager
    def watching(self, grid: Grid) -> Iterator[None]:
        """Meanwhile notice each reply when it arrives: Flower hands over all of them at the end.

        No round is watched afterwards.
        """
        pull = grid.pull_messages

        def watched(message_ids: Iterable[str]) -> list[Message]:
            replies = list(pull(message_ids))
            for reply in replies:
                self.answered(reply)
            return replies

        # Flower's grids wait for replies by their own method, which is found on the object first.
        grid.pull_messages = watched  # type: ignore[method-assign]
        try:
            yield
        finally:
            del grid.pull_messages
            self.stop()

    def _watch(self, stopping: threading.Event) -> None:
        started = time.monotonic()
        stream = terminal()
        with LogLines() if stream is None else MovingBar(stream) as shown:
            while not stopping.wait(self._interval_seconds):
                self._ask()
                now = self._round
                shown.show(now, under_way(now, self._pace()))
            self._ask()
            if self._round.has_begun:
                seconds = time.monotonic() - started
                shown.end(self._round, at_the_end(self._round, self._pace(), seconds))

    def _pace(self) -> Pace:
        return Pace.between(self._first, self._round, time.monotonic() - self._first_seconds)

    def _ask(self) -> None:
        if self._look is None:
            return
        try:
            done = self._look()
        except HSplitError:
            return
        with self._lock:
            self._round = self._round.with_work(done)
            if not self._first.num_steps and done.num_steps:
                # By now clients have started their processes and loaded their halves.
                self._first, self._first_seconds = self._round, time.monotonic()


@final
class LogLines:
    """The bar as lines of the log: one at the half, one at the end, and one in any long silence."""

    def __init__(self) -> None:
        self._last_seconds = time.monotonic()
        self._still_seconds = STILL_SECONDS
        self._is_past_half = False

    def __enter__(self) -> "LogLines":
        return self

    def __exit__(self, *of_an_error: object) -> None:
        """Nothing is to be put right."""

    def show(self, now: RoundSteps, words: str) -> None:
        """Say how far the round is, if that is worth a line."""
        reaches_half = now.share >= 0.5 and not self._is_past_half
        is_still = time.monotonic() - self._last_seconds >= self._still_seconds
        if is_still:
            self._still_seconds = min(MOST_STILL_SECONDS, 2 * self._still_seconds)
        if is_still or reaches_half:
            self._is_past_half |= reaches_half
            self._last_seconds = time.monotonic()
            log(INFO, "\tround %s %s %s", now.server_round, bar(now.share), words)

    def end(self, now: RoundSteps, words: str) -> None:
        """Say what the round took."""
        log(INFO, "\tround %s %s %s", now.server_round, bar(1.0), words)


@final
class MovingBar:
    """The bar on a terminal, on the last line of it, which is replaced by a line of the log."""

    def __init__(self, stream: TextIO) -> None:
        self._live = Live(console=Console(file=stream), transient=True, auto_refresh=False)
        self._lines = LogLines()

    def __enter__(self) -> "MovingBar":
        self._live.start()
        return self

    def __exit__(self, *of_an_error: object) -> None:
        self._live.stop()

    def show(self, now: RoundSteps, words: str) -> None:
        """Move the bar."""
        text = Text(f"round {now.server_round} {bar(now.share)} {words}")
        text.no_wrap, text.overflow = True, "ellipsis"
        self._live.update(text, refresh=True)

    def end(self, now: RoundSteps, words: str) -> None:
        """Leave a line instead."""
        self._live.stop()
        self._lines.end(now, words)
