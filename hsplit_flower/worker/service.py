"""The worker as a gRPC service: check the token, decode, call, encode."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from ..errors import AuthenticationError, ConfigError, WorkerUnavailableError
from ..settings import Certificates, Link, SessionSpec, Worker
from ..transport.channel import PLAIN, server_options
from ..transport.credentials import (
    OPERATOR_TOKEN_KEY,
    SESSION_TOKEN_KEY,
    is_same_token,
    server_credentials,
    token_from,
)
from ..transport.deadline import deadline
from ..transport.status import sent_as_status
from ..wire.factors import factors_from_wire, factors_to_wire
from ..wire.form import from_text, to_text
from ..wire.messages import reply_to_wire
from ..wire.proto.split_pb2 import (
    CollectReply,
    Empty,
    Factors,
    Form,
    SessionSummary,
    SessionTicket,
    StepCounts,
    StepReply,
    StepRequest,
)
from ..wire.proto.split_pb2_grpc import (
    SplitWorkerServicer,
    WorkerControlServicer,
    add_SplitWorkerServicer_to_server,
    add_WorkerControlServicer_to_server,
)
from .stream_handler import StreamHandler
from .worker import SplitWorker

logger = logging.getLogger(__name__)

OPERATOR_CALLS = 8
"""How many calls there is room for beside every session's stream."""


class TrainingService(SplitWorkerServicer):
    """The clients' side of a worker: one stream a session, the newest.

    A client that sends nothing, or takes no reply, for too long loses its stream.
    """

    def __init__(self, worker: SplitWorker, *, patience_seconds: float) -> None:
        self._worker = worker
        self._patience_seconds = patience_seconds

    def Exchange(
        self, request_iterator: Iterator[StepRequest], context: grpc.ServicerContext
    ) -> Iterator[StepReply]:
        """One session's exchange, a reply for every request."""
        with sent_as_status(context):
            token = token_from(context, SESSION_TOKEN_KEY) or ""
            # Held before the session is looked for, or it might be closed in between, unheard.
            with self._worker.streams.held(token, context.cancel):
                spec = self._worker.spec_of(token)
                handler = StreamHandler(
                    lambda request: self._worker.exchange(token, request),
                    granted=spec.max_unanswered,
                    patience_seconds=self._patience_seconds,
                )
                # However the call ends, this thread waits no longer.
                context.add_callback(handler.end)
                for reply in handler.replies(request_iterator):
                    message = reply_to_wire(reply, spec.wire_type, spec.wire_gradient_type)
                    # gRPC comes back from here when the message has gone out.
                    with deadline(context, self._patience_seconds, lambda: self._give_up(spec)):
                        yield message
                if handler.saw_goodbye:
                    self._worker.say_goodbye(token)

    def _give_up(self, spec: SessionSpec) -> None:
        logger.warning(
            "client %s took no reply for %g s: its stream is ended",
            spec.client,
            self._patience_seconds,
        )


class ControlService(WorkerControlServicer):
    """The strategy's side of a worker that runs in a process of its own."""

    def __init__(self, worker: SplitWorker, operator_token: str, *, max_message_bytes: int) -> None:
        self._worker = worker
        self._operator_token = operator_token
        self._max_message_bytes = max_message_bytes

    def Describe(self, request: Empty, context: grpc.ServicerContext) -> Form:
        with sent_as_status(context):
            self._authenticate(context)
            return Form(text=to_text(self._worker.describe()))

    def LoadUpdate(
        self, request_iterator: Iterator[Factors], context: grpc.ServicerContext
    ) -> Empty:
        with sent_as_status(context):
            self._authenticate(context)
            self._worker.load_update(factors_from_wire(request_iterator))
            return Empty()

    def Open(self, request: Form, context: grpc.ServicerContext) -> SessionTicket:
        with sent_as_status(context):
            self._authenticate(context)
            spec = from_text(SessionSpec, request.text)
            token = self._worker.open(spec)
            if not context.is_active():
                self._worker.close(token)
                raise WorkerUnavailableError("whoever asked for the session waits no longer")
            purpose = "train" if spec.train else "evaluate"
            logger.info("client %s may %s, cut at block %s", spec.client, purpose, spec.cut)
            return SessionTicket(token=token)

    def Steps(self, request: Empty, context: grpc.ServicerContext) -> StepCounts:
        with sent_as_status(context):
            self._authenticate(context)
            return StepCounts(steps=self._worker.steps())

    def Collect(
        self, request: SessionTicket, context: grpc.ServicerContext
    ) -> Iterator[CollectReply]:
        with sent_as_status(context):
            self._authenticate(context)
            result = self._worker.collect(request.token)
            client = self._worker.spec_of(request.token).client
            logger.info("client %s took %s steps", client, result.num_steps)
            limit = self._max_message_bytes
            for factors in factors_to_wire(result.updates, max_message_bytes=limit):
                yield CollectReply(factors=factors)
            summary = SessionSummary(num_steps=result.num_steps, importance=dict(result.importance))
            yield CollectReply(summary=summary)

    def Close(self, request: SessionTicket, context: grpc.ServicerContext) -> Empty:
        with sent_as_status(context):
            self._authenticate(context)
            self._worker.close(request.token)
            return Empty()

    def _authenticate(self, context: grpc.ServicerContext) -> None:
        if not is_same_token(token_from(context, OPERATOR_TOKEN_KEY), self._operator_token):
            raise AuthenticationError("the operator token is missing or wrong")


def serve(
    worker: SplitWorker,
    *,
    host: str,
    port: int,
    operator_token: str | None = None,
    max_message_bytes: int = Link().max_message_bytes,
    patience_seconds: float = Worker().session_timeout_seconds,
    certificates: Certificates = PLAIN,
) -> tuple[grpc.Server, int]:
    """Start serving a worker; give the server and the port that it listens on.

    Parameters
    ----------
    worker
        What answers.
    host, port
        Where to listen; port 0 takes a free one.
    operator_token
        Opens the strategy's side of the service; without it only clients are served.
    max_message_bytes
        Larger messages are refused in both directions.
    patience_seconds
        How long a reply may wait to be taken, or a stream be without a request, before it is ended.
    certificates
        What the port is secured with; by default nothing, for loopback and trusted networks.

    Raises
    ------
    ConfigError
        If the address cannot be listened on.
    """
    # A session has one stream, and each holds a thread: the operator always finds one.
    num_threads = worker.describe().max_sessions + OPERATOR_CALLS
    server = grpc.server(
        ThreadPoolExecutor(max_workers=num_threads, thread_name_prefix="split-worker-stream"),
        options=[*server_options(max_message_bytes), ("grpc.so_reuseport", 0)],
    )
    training = TrainingService(worker, patience_seconds=patience_seconds)
    add_SplitWorkerServicer_to_server(training, server)
    if operator_token is not None:
        if not operator_token:
            raise ConfigError("the operator token is empty: a secret of some length is wanted")
        control = ControlService(worker, operator_token, max_message_bytes=max_message_bytes)
        add_WorkerControlServicer_to_server(control, server)
    bound = _listen(server, f"{host}:{port}", server_credentials(certificates))
    server.start()
    return server, bound


def _listen(server: grpc.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """The port that the server is bound to."""
    try:
        if credentials is None:
            bound: int = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address}: {error}") from error
    if not bound:
        raise WorkerUnavailableError(f"cannot listen on {address}")
    return bound
