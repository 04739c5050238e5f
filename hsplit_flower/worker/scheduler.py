"""Which waiting task the device runs next: a pure function of the queue."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Work for the device, and where its result goes. ``arrival`` counts up by one."""

    arrival: int
    run: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)


def next_task(queue: Sequence[Task]) -> Task:
    """First come, first served. A client has one request waiting at a time, so none starves."""
    return min(queue, key=lambda task: task.arrival)
