"""One client's stream on the worker: requests are read ahead, answered in order, and bounded.

Three coroutines share the work, so that one micro-batch can come in while another is computed and
the reply to a third goes out: one reads and decodes, one has requests answered, and the caller,
which iterates over the replies, sends them.
"""

import asyncio
import math
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace

from ..errors import WorkerRejectedError, WorkerUnavailableError
from ..settings.link import GRANT_MORE
from ..wire.messages import Reply, Request

Read = Callable[[], Awaitable[bytes | None]]
"""Gives the next message; None when no more will come."""
Decode = Callable[[bytes], Awaitable[Request | None]]
"""Gives the request of a message; None if it says that nothing more will come."""
Answer = Callable[[Request], Awaitable[Reply]]


class _PatienceIsOver:
    """Stands among the replies where none came for too long."""


@dataclass(frozen=True, kw_only=True)
class _Arrived:
    """A request, and when it came."""

    request: Request
    seconds: float


class StreamHandler:
    """The replies to a stream of requests.

    Parameters
    ----------
    read, decode
        Where requests come from.
    answer
        Gives the reply to a request; asked for one at a time, in the requests' order.
    granted
        How many requests may be unanswered at a time; the stream ends with an error at one more.
    patience_seconds
        How long it may be before the next request comes; then the stream ends.
    """

    def __init__(
        self,
        read: Read,
        decode: Decode,
        answer: Answer,
        *,
        granted: int,
        patience_seconds: float = math.inf,
    ) -> None:
        self._read, self._decode, self._answer = read, decode, answer
        self._granted = granted
        # A wait without end is a wait until a time that the system can still count to.
        self._patience_seconds = min(patience_seconds, threading.TIMEOUT_MAX)
        self._unanswered = 0
        # Not told by the requests' end: those of a call that was cut off end, too.
        self.saw_goodbye = False
        self._requests: asyncio.Queue[_Arrived | BaseException | None] = asyncio.Queue()
        self._replies: asyncio.Queue[Reply | BaseException | _PatienceIsOver | None]
        self._replies = asyncio.Queue()

    async def replies(self) -> AsyncGenerator[Reply, None]:
        """The replies as they come, until the requests end or one of them fails.

        To be closed by whoever does not come to the end.

        Raises
        ------
        WorkerRejectedError
            If more requests are unanswered than granted.
        WorkerUnavailableError
            If no request came for too long: the client may open another stream for its next one.
        HSplitError
            What decoding or answering a request raised.
        """
        tasks = [asyncio.create_task(work()) for work in (self._read_all, self._answer_all)]
        try:
            while (reply := await self._next_reply()) is not None:
                # Counted before it goes out: the client's next request may be here at once.
                self._unanswered -= 1
                yield reply
        finally:
            for task in tasks:
                task.cancel()

    async def _next_reply(self) -> Reply | None:
        loop = asyncio.get_running_loop()
        while True:
            timer = loop.call_later(
                self._patience_seconds, self._replies.put_nowait, _PatienceIsOver()
            )
            try:
                reply = await self._replies.get()
            finally:
                timer.cancel()
            if isinstance(reply, BaseException):
                raise reply
            if not isinstance(reply, _PatienceIsOver):
                return reply
            if not self._unanswered:
                raise WorkerUnavailableError(
                    f"no request came for {self._patience_seconds:g} s: the stream is ended, "
                    "another one may be opened"
                )

    async def _read_all(self) -> None:
        """Take requests off the wire, so that one too many is seen and not only kept waiting."""
        end: BaseException | None = None
        try:
            while (message := await self._read()) is not None:
                came_seconds = time.perf_counter()
                request = await self._decode(message)
                del message
                if request is None:
                    self.saw_goodbye = True
                    break
                self._unanswered += 1
                if self._unanswered > self._granted:
                    raise WorkerRejectedError(
                        f"{self._unanswered} requests are unanswered, {self._granted} were "
                        f"granted: wait for replies, or {GRANT_MORE}"
                    )
                self._requests.put_nowait(_Arrived(request=request, seconds=came_seconds))
        except Exception as error:
            end = error
        self._requests.put_nowait(end)

    async def _answer_all(self) -> None:
        while (came := await self._requests.get()) is not None:
            try:
                if isinstance(came, BaseException):
                    raise came
                reply = await self._answer(came.request)
            except Exception as error:
                self._replies.put_nowait(error)
                return
            taken_seconds = time.perf_counter() - came.seconds
            self._replies.put_nowait(replace(reply, worker_seconds=taken_seconds))
        self._replies.put_nowait(None)
