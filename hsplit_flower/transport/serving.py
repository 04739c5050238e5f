"""A server's own thread: one event loop for all calls, which hold no thread while they wait."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
import grpc.aio

from ..errors import ConfigError, WorkerUnavailableError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class CallLoop:
    """The thread in which every server of this process has its calls handled.

    gRPC's asynchronous side wants one event loop a process.
    """

    _lock = threading.Lock()
    _running: "CallLoop | None" = None

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.failure: BaseException | None = None
        self._process = os.getpid()
        self._servers: set[Server] = set()
        threading.Thread(target=self._run, name="split-worker-calls", daemon=True).start()

    @classmethod
    def of_process(cls) -> "CallLoop":
        """The one that runs here; a process that was forked off has one of its own."""
        with cls._lock:
            running = cls._running
            if running is None or running.failure or running._process != os.getpid():
                running = cls._running = cls()
            return running

    def run(self, work: Coroutine[Any, Any, Result], timeout: float | None = None) -> Result:
        """What a coroutine gives, for a caller outside of the loop's thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def watch(self, server: "Server") -> None:
        """Tell a server if the thread dies."""
        self._servers.add(server)

    def forget(self, server: "Server") -> None:
        """Tell a server nothing more."""
        self._servers.discard(server)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            raise RuntimeError("the event loop was stopped")
        except BaseException as error:
            self.failure = error
            logger.critical("the thread that answers calls died", exc_info=True)
            for server in list(self._servers):
                server.fail("the thread that answers calls died; the log says why")


class Server:
    """A port that is listened on, until it is stopped or what serves it dies.

    Parameters
    ----------
    make
        Makes gRPC's server and its port, in the loop's thread.
    pools
        Threads that its handlers hand work to; they end with it.
    when_failed
        Is told the reason, should what serves it die.
    """

    def __init__(
        self,
        make: Callable[[], tuple[grpc.aio.Server, int]],
        pools: Sequence[ThreadPoolExecutor] = (),
        when_failed: Callable[[str], object] | None = None,
    ) -> None:
        self._calls = CallLoop.of_process()
        self._pools = pools
        self._when_failed = when_failed
        self._ended = threading.Event()
        self._failure: str | None = None
        self._server, self.port = self._calls.run(_started(make))
        self._calls.watch(self)

    def stop(self, grace: float | None = None) -> threading.Event:
        """Take no more calls, and end those that there are after ``grace`` seconds.

        Gives an event that says when all is over; a second stop may shorten the first.
        """
        stopping = asyncio.run_coroutine_threadsafe(self._server.stop(grace), self._calls.loop)
        stopping.add_done_callback(lambda _: self._is_over())
        return self._ended

    def wait_for_termination(self) -> None:
        """Wait until the server was stopped.

        Raises
        ------
        WorkerUnavailableError
            If what serves calls died: a supervisor may start the process again.
        """
        self._ended.wait()
        if self._failure is not None:
            raise WorkerUnavailableError(self._failure)

    def fail(self, reason: str) -> None:
        """Let whoever waits know that nobody serves any more."""
        self._failure = reason
        self._is_over()
        if self._when_failed is not None:
            self._when_failed(reason)

    def _is_over(self) -> None:
        self._calls.forget(self)
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)
        self._ended.set()


def started_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Threads that are there from the beginning: later the system may have none left.

    Raises
    ------
    ConfigError
        If the system gives no more threads now.
    """
    pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix=name)
    barrier = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(barrier.wait)
    except RuntimeError as error:
        barrier.abort()
        raise ConfigError(
            f"the system gives no {count} threads ({error}): a process that may have more is wanted"
        ) from error
    barrier.wait()
    return pool


async def _started(make: Callable[[], tuple[grpc.aio.Server, int]]) -> tuple[grpc.aio.Server, int]:
    server, port = make()
    await server.start()
    return server, port
