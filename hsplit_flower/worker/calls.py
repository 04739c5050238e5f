"""Work on a call that is more than waiting: done in threads that are few and there from the start.

All calls share one event loop. What takes the processor for longer than a blink, or waits for the
worker's device, is handed to a thread, and the loop goes on with other calls.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from ..transport.freed_memory import give_freed_memory_back, keep_freed_memory
from ..transport.serving import started_threads

Result = TypeVar("Result")

CODEC_THREADS = 4
"""How many messages are decoded or encoded at a time."""
OPERATOR_THREADS = 8
"""How many of the operator's calls wait for the worker at a time; others wait for these."""
TRIM_SECONDS = 0.5
"""How long after a call's end the system gets memory back; others in between share in it."""
SMALL_BYTES = 2**20
"""Up to so much a message is dealt with in the loop: a thread takes longer to hear of it."""


class CallThreads:
    """The threads behind one server's calls."""

    def __init__(self) -> None:
        # Of threads that are there already, the pools stay as they are.
        keep_freed_memory()
        self._codec = started_threads(CODEC_THREADS, "split-worker-codec")
        self._operator = started_threads(OPERATOR_THREADS, "split-worker-operator")
        self._is_trim_due = False

    @property
    def pools(self) -> tuple[ThreadPoolExecutor, ...]:
        """To be shut down when the server is."""
        return self._codec, self._operator

    def end(self) -> None:
        """Take no more work."""
        for pool in self.pools:
            pool.shutdown(wait=False)

    async def convert(self, num_bytes: int, work: Callable[[], Result]) -> Result:
        """Decode or encode so many bytes."""
        if num_bytes <= SMALL_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._codec, work)

    async def wait_for(self, work: Callable[[], Result]) -> Result:
        """Do what may have to wait for the worker's device."""
        return await asyncio.get_running_loop().run_in_executor(self._operator, work)

    def trim_soon(self) -> None:
        """Have freed memory given back to the system, after what held it has ended."""
        if not self._is_trim_due:
            self._is_trim_due = True
            asyncio.get_running_loop().call_later(TRIM_SECONDS, self._trim)

    def _trim(self) -> None:
        self._is_trim_due = False
        # The pool is shut down where the server has ended meanwhile.
        with suppress(RuntimeError):
            self._codec.submit(give_freed_memory_back)
