"""A split worker that is slower than this machine by a known factor.

A thread's own processor time is measured and slept on in proportion, so that a slowed device takes
the same time whoever else wants the cores.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from benchmarks.tools.shaped_link import sleep_until
from hsplit_flower.wire.messages import Reply, Request
from hsplit_flower.worker.hosting import HostedWorker


class SlowedWorker(HostedWorker):
    """A split worker whose device is so many times slower; it serves one step at a time."""

    factor = 1.0

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self._device = ThreadPoolExecutor(max_workers=1)

    def submit(self, token: str | None, request: Request) -> "Future[Reply]":
        return self._device.submit(self._slowed, token, request)

    def used_seconds(self, token: str | None, request: Request) -> float:
        """Processor time that a request takes the worker's thread; nothing is slowed."""
        return self._timed(token, request)[1]

    def _slowed(self, token: str | None, request: Request) -> Reply:
        began = time.perf_counter()
        reply, used = self._timed(token, request)
        sleep_until(began + self.factor * used)
        return reply

    def _timed(self, token: str | None, request: Request) -> tuple[Reply, float]:
        began = self._executor.call(time.thread_time)
        reply = super().submit(token, request).result()
        return reply, self._executor.call(time.thread_time) - began
