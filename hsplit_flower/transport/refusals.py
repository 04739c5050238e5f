"""What a caller is told when its call is refused, and what the log keeps of it.

Callers may be anybody. So what is refused is let go of at once, what it said is one line wherever
it is shown, and the log has a bounded number of such lines however often somebody knocks.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from ..errors import HSplitError, OutOfBudgetError
from ..wire.error_text import one_line, write_error
from .status import CATALOGUE, ERROR_NAME_KEY, status_of

logger = logging.getLogger(__name__)

MOST_TOLD = 2000
"""Characters of an error that travel: trailers that are longer would be dropped on their way."""
MOST_LINES, PERIOD_SECONDS = 20, 10.0
"""Refusals that are logged one by one in a period; the others of it are counted."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """How a call ends that was not answered: a status, why, and the name of our error."""

    code: grpc.StatusCode
    details: str
    name: str = ""

    @classmethod
    def of(cls, error: HSplitError) -> "Refusal":
        """What an error of ours becomes; one that is made of numbers sends them along."""
        details = write_error(error) if isinstance(error, OutOfBudgetError) else str(error)
        name = next(kind.__name__ for kind, _ in CATALOGUE if isinstance(error, kind))
        return cls(code=status_of(error), details=details[:MOST_TOLD], name=name)

    @property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        """What goes out beside status and details."""
        return ((ERROR_NAME_KEY, self.name),) if self.name else ()


FAILED = Refusal(code=grpc.StatusCode.INTERNAL, details="the split worker failed; its log says why")
"""What is told of an error that is not ours."""


class RefusalLog:
    """Keeps what was refused, a few lines in each period.

    Parameters
    ----------
    most_lines
        How many refusals have a line of their own in a period.
    period_seconds
        How long it is.
    clock
        Seconds that only go up.
    """

    def __init__(
        self,
        most_lines: int = MOST_LINES,
        period_seconds: float = PERIOD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_lines = most_lines
        self._period_seconds = period_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._began = -float("inf")
        self._count = 0

    def note(self, peer: str, reason: str) -> None:
        """Log a refusal, or count it."""
        with self._lock:
            now, unsaid = self._clock(), 0
            if now - self._began >= self._period_seconds:
                unsaid = max(0, self._count - self._most_lines)
                self._began, self._count = now, 0
            self._count += 1
            is_said = self._count <= self._most_lines
        if unsaid:
            logger.info("refused %s more calls, which have no line here", unsaid)
        if is_said:
            logger.info("refused to %s: %s", peer, one_line(reason))


def let_go(error: BaseException) -> None:
    """Free what the frames hold that an error came through, and those of its causes.

    A refused request would otherwise live in them until the collector finds the cycle.
    """
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        pending += [each.__cause__, each.__context__]
        if each.__traceback__ is not None:
            traceback.clear_frames(each.__traceback__)
            each.__traceback__ = None
