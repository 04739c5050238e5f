"""The one thread that touches the device."""

import itertools
import threading
from collections.abc import Callable
from typing import TypeVar

import torch

from ..errors import WorkerRejectedError, WorkerUnavailableError
from .scheduler import Task, next_task

Result = TypeVar("Result")


class Executor:
    """Runs tasks one at a time in a thread of its own; results and exceptions go to the caller.

    Parameters
    ----------
    max_waiting
        How many tasks may wait; more are refused.
    """

    def __init__(self, *, max_waiting: int = 256) -> None:
        self._max_waiting = max_waiting
        self._arrivals = itertools.count()
        self._queue: list[Task] = []
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._work, name="split-worker", daemon=True)
        self._thread.start()

    def call(self, run: Callable[[], Result]) -> Result:
        """Run something on the device's thread, wait, and give its result.

        Raises
        ------
        WorkerRejectedError
            If too many tasks are waiting.
        WorkerUnavailableError
            If the worker is stopping.
        """
        with self._changed:
            if self._is_stopping:
                raise WorkerUnavailableError("the split worker is stopping")
            if len(self._queue) >= self._max_waiting:
                raise WorkerRejectedError(f"{self._max_waiting} steps are waiting: try again later")
            task = Task(arrival=next(self._arrivals), run=run)
            self._queue.append(task)
            self._changed.notify()
        return task.future.result()  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Finish the task that is running, refuse those that wait, end the thread."""
        with self._changed:
            self._is_stopping = True
            waiting, self._queue = self._queue, []
            self._changed.notify()
        for task in waiting:
            task.future.set_exception(WorkerUnavailableError("the split worker is stopping"))
        self._thread.join()

    def _work(self) -> None:
        while (task := self._take()) is not None:
            # Grad mode belongs to the thread: a task says itself what it wants, starting from on.
            with torch.enable_grad():
                try:
                    task.future.set_result(task.run())
                except BaseException as error:
                    task.future.set_exception(error)

    def _take(self) -> Task | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_stopping)
            if self._is_stopping:
                return None
            task = next_task(self._queue)
            self._queue.remove(task)
            return task
