"""How a client reaches its session: send a request, receive its reply."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ..types import WireType
from .messages import (
    Reply,
    Request,
    reply_from_wire,
    reply_to_wire,
    request_from_wire,
    request_to_wire,
)
from .split_pb2 import StepReply, StepRequest


@runtime_checkable
class Stream(Protocol):
    """One session's dialogue with the split worker.

    Requests are answered in their order. What fails raises a
    :class:`~hsplit_flower.errors.TransportError` or the error that the worker raised.
    """

    def exchange(self, request: Request) -> Reply:
        """Send one request and wait for its reply."""

    def close(self) -> None:
        """End the dialogue; the session on the worker stays open."""


class InProcessStream:
    """A dialogue without a network, through the same bytes as any other.

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

    def exchange(self, request: Request) -> Reply:
        sent = request_to_wire(request, *self._types).SerializeToString()
        reply = self._answer(request_from_wire(StepRequest.FromString(sent)))
        received = reply_to_wire(reply, *self._types).SerializeToString()
        return reply_from_wire(StepReply.FromString(received))

    def close(self) -> None:
        """Nothing is held open."""
