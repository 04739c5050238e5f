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
    wire_type
        What floating-point tensors are on the wire.
    """

    def __init__(self, answer: Callable[[Request], Reply], wire_type: WireType) -> None:
        self._answer = answer
        self._wire_type = wire_type

    def exchange(self, request: Request) -> Reply:
        sent = request_to_wire(request, self._wire_type).SerializeToString()
        reply = self._answer(request_from_wire(StepRequest.FromString(sent)))
        received = reply_to_wire(reply, self._wire_type).SerializeToString()
        return reply_from_wire(StepReply.FromString(received))

    def close(self) -> None:
        """Nothing is held open."""
