"""One client's stream on the worker: requests are read ahead, answered in order, and bounded.

Three threads share the work, so that one micro-batch can come in while another is computed and the
reply to a third goes out: one reads and decodes, one has requests answered, and gRPC's own, which
iterates over the replies, sends them.
"""

import math
import queue
import threading
from collections.abc import Callable, Iterator

from ..errors import HSplitError, WorkerRejectedError, WorkerUnavailableError
from ..settings.link import GRANT_MORE
from ..wire.messages import Reply, Request, request_from_wire
from ..wire.proto.split_pb2 import StepRequest


class StreamHandler:
    """The replies to a stream of requests.

    Parameters
    ----------
    answer
        Gives the reply to a request; called by one thread, in the requests' order.
    granted
        How many requests may be unanswered at a time; the stream ends with an error at one more.
    patience_seconds
        How long it may be before the next request comes; then the stream ends.
    """

    def __init__(
        self,
        answer: Callable[[Request], Reply],
        *,
        granted: int,
        patience_seconds: float = math.inf,
    ) -> None:
        self._answer = answer
        self._granted = granted
        # A wait without end is a wait until a time that the system can still count to.
        self._patience_seconds = min(patience_seconds, threading.TIMEOUT_MAX)
        self._lock = threading.Lock()
        self._unanswered = 0
        self._is_over = False
        # Not told by the requests' end: gRPC ends those of a call that was cancelled, too.
        self.saw_goodbye = False
        self._requests: queue.SimpleQueue[Request | BaseException | None] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[Reply | BaseException | None] = queue.SimpleQueue()

    def replies(self, messages: Iterator[StepRequest]) -> Iterator[Reply]:
        """The replies as they come, until the requests end or one of them fails.

        Raises
        ------
        WorkerRejectedError
            If more requests are unanswered than granted.
        WorkerUnavailableError
            If no request came for too long: the client may open another stream for its next one.
        HSplitError
            What decoding or answering a request raised.
        """
        for name, target, args in (
            ("split-worker-reader", self._read, (messages,)),
            ("split-worker-answers", self._reply, ()),
        ):
            threading.Thread(target=target, args=args, name=name, daemon=True).start()
        try:
            while (reply := self._next_reply()) is not None:
                if isinstance(reply, BaseException):
                    raise reply
                # Counted before it goes out: the client's next request may be here at once.
                with self._lock:
                    self._unanswered -= 1
                yield reply
        finally:
            self._is_over = True

    def end(self) -> None:
        """Let whoever waits for the next reply go."""
        self._is_over = True
        self._replies.put(None)

    def _next_reply(self) -> Reply | BaseException | None:
        while True:
            try:
                return self._replies.get(timeout=self._patience_seconds)
            except queue.Empty:
                with self._lock:
                    is_idle = not self._unanswered
                if is_idle:
                    raise WorkerUnavailableError(
                        f"no request came for {self._patience_seconds:g} s: the stream is ended, "
                        "another one may be opened"
                    ) from None

    def _read(self, messages: Iterator[StepRequest]) -> None:
        """Take requests off the wire, so that one too many is seen and not only kept waiting."""
        try:
            for message in messages:
                if message.HasField("goodbye"):
                    self.saw_goodbye = True
                    break
                with self._lock:
                    self._unanswered += 1
                    num_unanswered = self._unanswered
                if num_unanswered > self._granted:
                    raise WorkerRejectedError(
                        f"{num_unanswered} requests are unanswered, {self._granted} were granted: "
                        f"wait for replies, or {GRANT_MORE}"
                    )
                self._requests.put(request_from_wire(message))
        except HSplitError as error:
            self._requests.put(error)
        except Exception:
            # The stream broke; whoever was to be told is gone.
            self._requests.put(None)
        else:
            self._requests.put(None)

    def _reply(self) -> None:
        while (request := self._requests.get()) is not None and not self._is_over:
            if isinstance(request, BaseException):
                self._replies.put(request)
                return
            try:
                self._replies.put(self._answer(request))
            except BaseException as error:
                self._replies.put(error)
                return
        self._replies.put(None)
