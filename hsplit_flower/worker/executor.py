"""The one thread that touches the device."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

from ..errors import HSplitError, WorkerRejectedError, WorkerUnavailableError
from ..transport.refusals import let_go
from .scheduler import Demand, Limits, Task, Together, companions, is_gathered, next_batch

logger = logging.getLogger(__name__)

STOPPING = "the split worker is stopping"
GATHERING_SHARE = 0.25
"""Of a pass's seconds: so long the next one waits for who was in it and is on the way back."""
DEAD = "the split worker's thread died; its log says why, and it must be started again"

Result = TypeVar("Result")


class Executor:
    """Runs tasks in a thread of its own, alone or together; results and exceptions go to who asked.

    Parameters
    ----------
    run_together
        Runs the tasks of one batch.
    limits
        What a batch may be.
    """

    def __init__(
        self, *, run_together: Together | None = None, limits: Limits | None = None
    ) -> None:
        self._run_together = run_together
        self._limits = limits or Limits()
        self._arrivals = itertools.count()
        self._queue: list[Task] = []
        self._running_owners: set[Hashable] = set()
        self._companions: frozenset[Hashable] = frozenset()
        self._pass_seconds = 0.0
        self._changed = threading.Condition()
        self._refusing_because = ""
        self._when_dead: list[Callable[[str], object]] = []
        self._thread = threading.Thread(target=self._work, name="split-worker", daemon=True)
        self._thread.start()

    def call(self, run: Callable[[], Result], *, owner: Hashable = None) -> Result:
        """Run something on the device's thread, by itself, wait, and give its result."""
        result: Result = self.submit(run, owner=owner).result()
        return result

    def submit(
        self,
        work: Any,
        *,
        owner: Hashable = None,
        demand: Demand | None = None,
        key: Hashable = None,
        max_waiting: int = 1,
    ) -> "Future[Any]":
        """Put work into the queue: with a demand, to be run together with what else waits.

        What one owner submits is run in that order.

        Parameters
        ----------
        work, owner, demand
            Those of a task.
        key
            By what work that comes again is known: while it waits it is not queued once more.
        max_waiting
            How much of the owner's work may wait that has a key. Without one it always may.

        Raises
        ------
        WorkerRejectedError
            If too much of the owner's is waiting.
        WorkerUnavailableError
            If the worker is stopping, or its thread died.
        """
        with self._changed:
            self.check_running()
            if key is not None:
                waiting = {t.key: t for t in self._queue if t.owner == owner and t.key is not None}
                if key in waiting:
                    return waiting[key].future
                if len(waiting) >= max_waiting:
                    raise WorkerRejectedError(
                        f"{len(waiting)} requests of this session are waiting, {max_waiting} were "
                        "granted: wait for replies"
                    )
            task = Task(
                arrival=next(self._arrivals), work=work, owner=owner, demand=demand, key=key
            )
            # It cannot be cancelled from now on: who repeats a request waits for it, too.
            task.future.set_running_or_notify_cancel()
            self._queue.append(task)
            self._changed.notify()
        return task.future

    def check_running(self) -> None:
        """See that what is submitted would be run.

        Raises
        ------
        WorkerUnavailableError
            If the worker is stopping, or its thread died.
        """
        if self._refusing_because:
            raise WorkerUnavailableError(self._refusing_because)

    def has_work(self, owner: Hashable) -> bool:
        """Whether anything of an owner's waits or is being run."""
        with self._changed:
            is_waiting = any(task.owner == owner for task in self._queue)
            return is_waiting or owner in self._running_owners

    def limit(self, limits: Limits) -> None:
        """Say what the next batches may be."""
        with self._changed:
            self._limits = limits

    def when_dead(self, tell: Callable[[str], object]) -> None:
        """Have somebody told, with the reason, should the thread die: nothing runs after that."""
        with self._changed:
            self._when_dead.append(tell)

    def stop(self) -> None:
        """Finish the batch that is running, refuse the tasks that wait, end the thread."""
        self.refuse_all(STOPPING)
        self._thread.join()

    def refuse_all(self, reason: str) -> None:
        """Refuse all that waits and all that comes."""
        with self._changed:
            self._refusing_because = self._refusing_because or reason
            waiting, self._queue = self._queue, []
            self._changed.notify()
        for task in waiting:
            task.future.set_exception(WorkerUnavailableError(reason))

    def _work(self) -> None:
        try:
            while self._run_next():
                pass
        except BaseException:
            logger.critical(DEAD, exc_info=True)
            self.refuse_all(DEAD)
            for tell in self._when_dead:
                tell(DEAD)

    def _run_next(self) -> bool:
        """Run the next batch, of which nothing is held here afterwards; whether there was one."""
        batch = self._take()
        # Grad mode belongs to the thread: a task says itself what it wants, starting from on.
        with torch.enable_grad():
            started = time.monotonic()
            outcomes = self._outcomes(batch)
            self._pass_seconds = time.monotonic() - started
            with self._changed:
                self._running_owners = set()
            for task, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    if isinstance(outcome, HSplitError):
                        let_go(outcome)
                    task.future.set_exception(outcome)
                else:
                    task.future.set_result(outcome)
        return bool(batch)

    def _outcomes(self, batch: Sequence[Task]) -> Sequence[Any]:
        if not batch:
            return []
        try:
            if batch[0].demand is None:
                return [batch[0].work()]
            assert self._run_together is not None
            return self._run_together([task.work for task in batch])
        except BaseException as error:
            return [error] * len(batch)

    def _take(self) -> list[Task]:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._refusing_because)
            self._changed.wait_for(
                lambda: self._refusing_because or is_gathered(self._queue, self._companions),
                timeout=GATHERING_SHARE * self._pass_seconds,
            )
            if self._refusing_because:
                return []
            batch = next_batch(self._queue, self._limits)
            taken = {task.arrival for task in batch}
            self._queue = [task for task in self._queue if task.arrival not in taken]
            self._running_owners = {task.owner for task in batch}
            self._companions = companions(batch)
            return batch
