"""Work on a call that is more than waiting: done in threads that are few and there from the start.

All calls share one event loop. What takes the processor for longer than a blink, or waits for the
worker's device, is handed to a thread, and the loop goes on with other calls.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ..transport.serving import started_threads

Result = TypeVar("Result")

CODEC_THREADS = 4
"""How many messages are decoded or encoded at a time."""
OPERATOR_THREADS = 8
"""How many of the operator's calls wait for the worker at a time; others wait for these."""
SMALL_BYTES = 2**17
"""Up to so much a message is dealt with at once: a thread would take longer to hear of it."""


class CallThreads:
    """The threads behind one server's calls."""

    def __init__(self) -> None:
        self._codec = started_threads(CODEC_THREADS, "split-worker-codec")
        self._operator = started_threads(OPERATOR_THREADS, "split-worker-operator")

    @property
    def pools(self) -> tuple[ThreadPoolExecutor, ...]:
        """To be shut down when the server is."""
        return self._codec, self._operator

    async def convert(self, num_bytes: int, work: Callable[[], Result]) -> Result:
        """Decode or encode so many bytes."""
        if num_bytes <= SMALL_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._codec, work)

    async def wait_for(self, work: Callable[[], Result]) -> Result:
        """Do what may have to wait for the worker's device."""
        return await asyncio.get_running_loop().run_in_executor(self._operator, work)
