"""The worker as a gRPC service: who may call what, and what bounds the calls.

No call is given a thread, and no message of it is read, before its token was looked at. Methods are
registered without a parser: what cannot be parsed is found out by the handler, and let go of.
"""

from functools import partial

import grpc
import grpc.aio

from ..errors import ConfigError, WorkerUnavailableError
from ..settings import Link, Worker
from ..transport.channel import server_options
from ..transport.gate import Gate, Guarded
from ..transport.health import Health
from ..transport.serving import Server
from .calls import CallThreads
from .control_service import ControlService
from .training_service import TrainingService
from .worker import SplitWorker


def serve(
    worker: SplitWorker,
    *,
    host: str,
    port: int,
    operator_token: str | None = None,
    writer_token: str = "",
    max_message_bytes: int = Link().max_message_bytes,
    patience_seconds: float = Worker().session_timeout_seconds,
    credentials: grpc.ServerCredentials | None = None,
    health: Health | None = None,
) -> tuple[Server, int]:
    """Start serving a worker; give the server and the port that it listens on.

    Parameters
    ----------
    worker
        What answers. If it or what serves it dies, the other ends with an error, too.
    host, port
        Where to listen; port 0 takes a free one.
    operator_token, writer_token
        Open the strategy's side of the service, without which only clients are served; and
        sessions that write texts, beside the operator's, empty for none.
    max_message_bytes
        Larger messages are refused in both directions.
    patience_seconds
        How long a reply may wait to be taken, or a stream be without a request, before it is ended.
    credentials, health
        What secures the port, by default nothing; and what says whether it serves.

    Raises
    ------
    ConfigError
        If the address cannot be listened on.
    """
    if operator_token == "":
        raise ConfigError("the operator token is empty: a secret of some length is wanted")
    threads = CallThreads()
    methods = TrainingService(worker, threads, patience_seconds=patience_seconds).methods()
    methods |= (health or Health()).methods()
    methods |= _control(worker, threads, operator_token, writer_token, max_message_bytes)
    gate = Gate(methods, threads.trim_soon)
    make = partial(_made, gate, f"{host}:{port}", max_message_bytes, credentials)
    try:
        server = Server(make, threads.pools, worker.refuse_all)
    except BaseException:
        threads.end()
        raise
    worker.when_dead(server.fail)
    return server, server.port


def _control(
    worker: SplitWorker,
    threads: CallThreads,
    operator_token: str | None,
    writer_token: str,
    max_message_bytes: int,
) -> dict[str, Guarded]:
    """The strategy's side; nothing without an operator."""
    if operator_token is None:
        return {}
    return ControlService(
        worker,
        threads,
        operator_token,
        max_message_bytes=max_message_bytes,
        writer_token=writer_token,
    ).methods()


def _made(
    gate: Gate, address: str, max_message_bytes: int, credentials: grpc.ServerCredentials | None
) -> tuple[grpc.aio.Server, int]:
    """gRPC's own server, and the port that it is bound to."""
    options = [*server_options(max_message_bytes), ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((gate,))
    return server, _listen(server, address, credentials)


def _listen(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None
) -> int:
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
