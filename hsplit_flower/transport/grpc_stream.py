"""The dialogue over gRPC: one bidirectional stream, reopened when it breaks."""

import queue
import time
from collections.abc import Iterator
from contextlib import suppress

import grpc

from ..errors import HSplitError, WorkerUnavailableError
from ..types import WireType
from .channel import ChannelSettings, open_channel, token_metadata
from .deadline import deadline
from .errors import raised_as_ours
from .messages import Reply, Request, reply_from_wire, request_to_wire
from .split_pb2 import StepReply, StepRequest
from .split_pb2_grpc import SplitWorkerStub

SESSION_TOKEN_KEY = "hsplit-session-token"


class GrpcStream:
    """One session's dialogue over the network.

    A request whose reply does not come is sent again on a new stream, after a pause that doubles
    each time. Steps are numbered and the worker answers a repeated one from memory, so no step is
    applied twice.

    Parameters
    ----------
    address
        ``host:port`` of the split worker.
    token
        The session's token; it travels in the call's metadata.
    wire_type
        What hidden states are on the wire.
    settings
        Message limit, deadline, retries and credentials.
    gradient_type
        What gradients are on the wire; the same as hidden states by default.
    """

    def __init__(
        self,
        address: str,
        token: str,
        wire_type: WireType,
        settings: ChannelSettings | None = None,
        gradient_type: WireType | None = None,
    ) -> None:
        self._settings = settings or ChannelSettings()
        self._address = address
        self._types = wire_type, gradient_type or wire_type
        self._metadata = token_metadata(SESSION_TOKEN_KEY, token)
        self._channel = open_channel(address, self._settings)
        self._stub = SplitWorkerStub(self._channel)
        self._call: grpc.CallIterator[StepReply] | None = None
        self._outbox: queue.SimpleQueue[StepRequest | None] = queue.SimpleQueue()

    def exchange(self, request: Request) -> Reply:
        """Send one request and wait for its reply, over as many streams as it takes.

        Raises
        ------
        WorkerUnavailableError
            If the worker does not answer within the settings' tries.
        """
        message = request_to_wire(request, *self._types)
        failure: WorkerUnavailableError | None = None
        for attempt in range(self._settings.num_tries):
            if attempt:
                time.sleep(self._settings.pause_seconds * 2 ** (attempt - 1))
            try:
                return reply_from_wire(self._send(message))
            except WorkerUnavailableError as error:
                failure = error
                self._hang_up()
            except HSplitError:
                self._hang_up()
                raise
        raise WorkerUnavailableError(
            f"the split worker at {self._address} was tried {self._settings.num_tries} times: "
            f"{failure}"
        ) from failure

    def close(self) -> None:
        """End the stream and the channel."""
        self._hang_up()
        self._channel.close()

    def _send(self, message: StepRequest) -> StepReply:
        with raised_as_ours():
            if self._call is None:
                self._outbox = queue.SimpleQueue()
                self._call = self._stub.Exchange(
                    _drain(self._outbox), metadata=self._metadata, wait_for_ready=False
                )
            self._outbox.put(message)
            return self._next_reply(self._call)

    def _next_reply(self, call: "grpc.CallIterator[StepReply]") -> StepReply:
        """The next reply, or the end of patience: a stream has no deadline for each message."""
        with deadline(call, self._settings.step_timeout_seconds) as late:
            try:
                reply: StepReply = next(call)
                return reply
            except StopIteration:
                raise WorkerUnavailableError("the split worker ended the stream") from None
            except grpc.RpcError as error:
                if late.is_set():
                    raise WorkerUnavailableError(
                        f"no reply within {self._settings.step_timeout_seconds:g} s"
                    ) from error
                raise

    def _hang_up(self) -> None:
        self._outbox.put(None)
        if self._call is not None:
            with suppress(grpc.RpcError):
                self._call.cancel()
            self._call = None


def _drain(outbox: "queue.SimpleQueue[StepRequest | None]") -> Iterator[StepRequest]:
    while (message := outbox.get()) is not None:
        yield message
