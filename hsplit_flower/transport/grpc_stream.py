"""The exchange over gRPC: one bidirectional stream, reopened when it breaks."""

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import grpc

from ..errors import (
    AuthenticationError,
    HSplitError,
    TransportError,
    WorkerUnavailableError,
)
from ..types import WireType
from ..wire.expected_reply import ExpectedReply
from ..wire.messages import Reply, Request, request_to_wire
from ..wire.proto.split_pb2 import Empty, StepRequest
from .channel import ChannelSettings, open_channel
from .credentials import SESSION_TOKEN_KEY, token_metadata
from .handshake import check_handshake
from .security import PLAIN, Security
from .silence import Silence
from .status import raised_as_ours
from .streams import Stream
from .traffic import Traffic, TrafficMeter

# A worker that lives takes a goodbye at once; one that does not hears nothing.
GOODBYE_SECONDS = 5.0
EXCHANGE = "/hsplit.v1.SplitWorker/Exchange"


class GrpcStream(Stream):
    """One session's exchange over the network.

    Requests that have no reply when a stream breaks are sent again on a new one, in their order,
    after a pause that doubles each time. Steps and micro-batches are numbered and the worker
    answers repeated ones from memory, so none is applied twice.

    No more replies are taken than requests were sent, and none is read that is not the one to the
    oldest of them: the worker, or whoever sits between, may be anybody.

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
        # Without gRPC's parser: a reply's size is looked at first.
        self._exchange = self._channel.stream_stream(EXCHANGE, request_serializer=self._serialised)
        self._unanswered: deque[_Unanswered] = deque()
        self._meter = TrafficMeter()
        self._line: _Line | None = None

    def send(self, request: Request) -> None:
        """Send one request and do not wait; it is kept until it has been answered."""
        message = request_to_wire(request, *self._types)
        self._unanswered.append(
            _Unanswered(
                message=message, expected=ExpectedReply.to(request), seconds=time.perf_counter()
            )
        )
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
        has_answered = self._meter.traffic.down_bytes > 0
        silent = Silence(self._settings if has_answered else self._settings.before_any_answer())
        while silent.tries_again():
            try:
                line = self._line or self._connect()
                started = time.perf_counter()
                reply = line.receive(self._settings.step_timeout_seconds)
                came = time.perf_counter()
                answer = self._unanswered[0].expected.read(reply)
                self._meter.received(len(reply))
                self._meter.waited(
                    came - started,
                    under_way_seconds=came - self._unanswered.popleft().seconds,
                    worker_seconds=answer.worker_seconds,
                )
                return answer
            except WorkerUnavailableError as error:
                silent.goes_on(error)
                self._hang_up()
                check_handshake(self._address, self._security)
            except HSplitError as error:
                self._hang_up()
                self._unanswered.clear()
                if isinstance(error, AuthenticationError):
                    # gRPC itself says so of a certificate for another host.
                    check_handshake(self._address, self._security)
                raise
        self._unanswered.clear()
        raise WorkerUnavailableError(
            f"the split worker at {self._address} was tried {silent.num_tries} times: "
            f"{silent.failure}"
        ) from silent.failure

    @property
    def traffic(self) -> Traffic:
        """What has gone over it so far."""
        return self._meter.traffic

    def close(self) -> None:
        """End the stream and the channel, in good order if nothing is unanswered."""
        if self._line is not None and not self._unanswered:
            self._line.say_goodbye(GOODBYE_SECONDS)
        self._hang_up()
        self._unanswered.clear()
        self._channel.close()

    def _connect(self) -> "_Line":
        """A new stream, on which everything that is unanswered is sent."""
        self._line = _Line(self._exchange, self._metadata)
        for each in self._unanswered:
            self._line.send(each.message)
        return self._line

    def _serialised(self, message: StepRequest) -> bytes:
        data = bytes(message.SerializeToString())
        self._meter.sent(len(data))
        return data

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.hang_up()
            self._line = None


@dataclass(frozen=True, kw_only=True)
class _Unanswered:
    """A request, when it was first sent, and what its reply must be."""

    message: StepRequest
    expected: ExpectedReply
    seconds: float


class _Line:
    """One gRPC stream, for as long as it holds.

    A thread takes replies off the wire as they come: gRPC asks for the next message only when it is
    asked itself, and while the client computes nobody would ask. It asks for as many as are owed,
    so that a worker that sends more has them wait on the wire.
    """

    def __init__(
        self, exchange: grpc.StreamStreamMultiCallable, metadata: tuple[tuple[str, str], ...]
    ) -> None:
        self._outbox: queue.SimpleQueue[StepRequest | None] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[bytes | grpc.RpcError | None] = queue.SimpleQueue()
        self._owed = threading.Semaphore(0)
        self._call: grpc.CallIterator[bytes] = exchange(
            _drain(self._outbox), metadata=metadata, wait_for_ready=False
        )
        threading.Thread(target=self._read, name="split-stream-reader", daemon=True).start()

    def send(self, message: StepRequest) -> None:
        """Hand a message to gRPC's own thread; it is owed one reply."""
        self._outbox.put(message)
        self._owed.release()

    def receive(self, timeout_seconds: float) -> bytes:
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
        self.send(StepRequest(goodbye=Empty()))
        self._outbox.put(None)
        with suppress(HSplitError):
            self.receive(timeout_seconds)

    def hang_up(self) -> None:
        """End the stream; nothing more comes from it."""
        with suppress(grpc.RpcError):
            self._call.cancel()
        self._outbox.put(None)
        self._owed.release()

    def _read(self) -> None:
        try:
            while True:
                self._owed.acquire()
                self._inbox.put(next(self._call))
        except StopIteration:
            self._inbox.put(None)
        except grpc.RpcError as error:
            self._inbox.put(error)


def _drain(outbox: "queue.SimpleQueue[StepRequest | None]") -> Iterator[StepRequest]:
    while (message := outbox.get()) is not None:
        yield message
