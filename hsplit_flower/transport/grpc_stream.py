"""The exchange over gRPC: one bidirectional stream, reopened when it breaks."""

import queue
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

import grpc

from ..errors import HSplitError, TransportError, WorkerUnavailableError
from ..types import WireType
from ..wire.messages import Reply, Request, reply_from_wire, request_to_wire
from ..wire.proto.split_pb2 import Empty, StepReply, StepRequest
from ..wire.proto.split_pb2_grpc import SplitWorkerStub
from .channel import ChannelSettings, open_channel
from .credentials import SESSION_TOKEN_KEY, token_metadata
from .handshake import check_handshake
from .security import PLAIN, Security
from .silence import Silence
from .status import raised_as_ours
from .streams import Stream

# A worker that lives takes a goodbye at once; one that does not hears nothing.
GOODBYE_SECONDS = 5.0


class GrpcStream(Stream):
    """One session's exchange over the network.

    Requests that have no reply when a stream breaks are sent again on a new one, in their order,
    after a pause that doubles each time. Steps and micro-batches are numbered and the worker
    answers repeated ones from memory, so none is applied twice.

    Parameters
    ----------
    address
        ``host:port`` of the split worker.
    token
        The session's token; it travels in the call's metadata.
    wire_type
        What hidden states are on the wire.
    settings
        Message limit, deadline and retries.
    gradient_type
        What gradients are on the wire; the same as hidden states by default.
    security
        What the channel is secured with; nothing by default.
    """

    def __init__(
        self,
        address: str,
        token: str,
        wire_type: WireType,
        settings: ChannelSettings | None = None,
        gradient_type: WireType | None = None,
        security: Security = PLAIN,
    ) -> None:
        self._settings = settings or ChannelSettings()
        self._address = address
        self._types = wire_type, gradient_type or wire_type
        self._metadata = token_metadata(SESSION_TOKEN_KEY, token)
        self._security = security
        self._channel = open_channel(address, self._settings, security)
        self._stub = SplitWorkerStub(self._channel)
        self._unanswered: deque[StepRequest] = deque()
        self._line: _Line | None = None

    def send(self, request: Request) -> None:
        """Send one request and do not wait; it is kept until it has been answered."""
        message = request_to_wire(request, *self._types)
        self._unanswered.append(message)
        if self._line is None:
            self._connect()
        else:
            self._line.send(message)

    def receive(self) -> Reply:
        """Wait for the reply to the oldest request, over as many streams as it takes.

        Raises
        ------
        WorkerUnavailableError
            If the worker does not answer within the settings' tries and patience.
        CertificateError
            If it cannot, for what secures the channel.
        """
        if not self._unanswered:
            raise TransportError("no request waits for a reply: send one first")
        silent = Silence(self._settings)
        while silent.tries_again():
            try:
                line = self._line or self._connect()
                reply = line.receive(self._settings.step_timeout_seconds)
                self._unanswered.popleft()
                return reply_from_wire(reply)
            except WorkerUnavailableError as error:
                silent.goes_on(error)
                self._hang_up()
                check_handshake(self._address, self._security)
            except HSplitError:
                self._hang_up()
                self._unanswered.clear()
                raise
        self._unanswered.clear()
        raise WorkerUnavailableError(
            f"the split worker at {self._address} was tried {silent.num_tries} times: "
            f"{silent.failure}"
        ) from silent.failure

    def close(self) -> None:
        """End the stream and the channel, in good order if nothing is unanswered."""
        if self._line is not None and not self._unanswered:
            self._line.say_goodbye(GOODBYE_SECONDS)
        self._hang_up()
        self._unanswered.clear()
        self._channel.close()

    def _connect(self) -> "_Line":
        """A new stream, on which everything that is unanswered is sent."""
        self._line = _Line(self._stub, self._metadata)
        for message in self._unanswered:
            self._line.send(message)
        return self._line

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.hang_up()
            self._line = None


class _Line:
    """One gRPC stream, for as long as it holds.

    A thread takes replies off the wire as they come: gRPC asks for the next message only when it is
    asked itself, and while the client computes nobody would ask.
    """

    def __init__(self, stub: SplitWorkerStub, metadata: tuple[tuple[str, str], ...]) -> None:
        self._outbox: queue.SimpleQueue[StepRequest | None] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[StepReply | grpc.RpcError | None] = queue.SimpleQueue()
        self._call: grpc.CallIterator[StepReply] = stub.Exchange(
            _drain(self._outbox), metadata=metadata, wait_for_ready=False
        )
        threading.Thread(target=self._read, name="split-stream-reader", daemon=True).start()

    def send(self, message: StepRequest) -> None:
        """Hand a message to gRPC's own thread."""
        self._outbox.put(message)

    def receive(self, timeout_seconds: float) -> StepReply:
        """The next reply, or the end of patience: a stream has no deadline for each message."""
        try:
            received = self._inbox.get(timeout=timeout_seconds)
        except queue.Empty:
            raise WorkerUnavailableError(f"no reply within {timeout_seconds:g} s") from None
        if received is None:
            raise WorkerUnavailableError("the split worker ended the stream")
        if isinstance(received, grpc.RpcError):
            with raised_as_ours():
                raise received
        return received

    def say_goodbye(self, timeout_seconds: float) -> None:
        """Tell the worker that nothing more comes, and wait until it has heard it."""
        self._outbox.put(StepRequest(goodbye=Empty()))
        self._outbox.put(None)
        with suppress(HSplitError):
            self.receive(timeout_seconds)

    def hang_up(self) -> None:
        """End the stream; nothing more comes from it."""
        with suppress(grpc.RpcError):
            self._call.cancel()
        self._outbox.put(None)

    def _read(self) -> None:
        try:
            for reply in self._call:
                self._inbox.put(reply)
        except grpc.RpcError as error:
            self._inbox.put(error)
        else:
            self._inbox.put(None)


def _drain(outbox: "queue.SimpleQueue[StepRequest | None]") -> Iterator[StepRequest]:
    while (message := outbox.get()) is not None:
        yield message
