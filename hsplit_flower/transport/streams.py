"""How a client reaches its session: send requests, receive their replies."""

from collections import deque
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ..errors import TransportError
from ..types import WireType
from ..wire.expected_reply import ExpectedReply
from ..wire.messages import (
    Reply,
    Request,
    reply_to_wire,
    request_from_wire,
    request_to_wire,
)
from ..wire.proto.split_pb2 import StepRequest
from .traffic import Traffic


@runtime_checkable
class Stream(Protocol):
    """One session's exchange with the split worker.

    Requests are answered in their order; several may be on their way. What fails raises a
    :class:`~hsplit_flower.errors.TransportError` or the error that the worker raised, and the
    requests that were unanswered then will not be answered any more.
    """

    def send(self, request: Request) -> None:
        """Send one request and do not wait."""

    def receive(self) -> Reply:
        """Wait for the reply to the oldest request that has none yet."""

    def close(self) -> None:
        """End the exchange; the session on the worker stays open."""

    @property
    def traffic(self) -> Traffic:
        """What has gone over it so far; nothing where nothing is measured."""
        return Traffic()

    def exchange(self, request: Request) -> Reply:
        """Send one request and wait for its reply."""
        self.send(request)
        return self.receive()


class InProcessStream(Stream):
    """A exchange without a network, through the same bytes as any other.

    Parameters
    ----------
    answer
        What answers a request, for instance a worker's ``exchange`` with the token filled in.
    wire_type, gradient_type
        What hidden states and gradients are on the wire; gradients the same by default.
    """

    def __init__(
        self,
        answer: Callable[[Request], Reply],
        wire_type: WireType,
        gradient_type: WireType | None = None,
    ) -> None:
        self._answer = answer
        self._types = wire_type, gradient_type or wire_type
        self._sent: deque[tuple[bytes, ExpectedReply]] = deque()

    def send(self, request: Request) -> None:
        """Put a request on the wire, where it stays until its reply is wanted."""
        message = request_to_wire(request, *self._types).SerializeToString()
        self._sent.append((message, ExpectedReply.to(request)))

    def receive(self) -> Reply:
        """Have the oldest request answered."""
        if not self._sent:
            raise TransportError("no request waits for a reply: send one first")
        message, expected = self._sent.popleft()
        request = request_from_wire(StepRequest.FromString(message))
        try:
            reply = self._answer(request)
        except BaseException:
            self._sent.clear()
            raise
        return expected.read(reply_to_wire(reply, *self._types).SerializeToString())

    def close(self) -> None:
        """Nothing is held open."""
        self._sent.clear()
