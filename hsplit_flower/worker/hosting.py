"""A split worker with a port of its own: in the ServerApp's process, or alone."""

import contextlib
from collections.abc import Mapping
from typing import Any

import torch

from ..adapters import LowRank
from ..devices import machine_profile
from ..errors import ConfigError
from ..settings import Link, Model, Planning, Trust, Worker
from ..splitting import Half, Parts, floating_dtype, load_half, read_architecture
from ..splitting.checkpoint import Checkpoint
from ..transport.health import Health
from ..transport.port_certificates import PortCertificates
from ..transport.serving import Server
from .service import serve
from .session import Sessions
from .worker import SplitWorker

DEFAULTS = Worker()
# Replies that are ready are sent in less.
LAST_REPLIES_SECONDS = 1.0


class HostedWorker(SplitWorker):
    """A split worker that is served over gRPC from this process."""

    address: str

    def __init__(self, half: Half, **values: Any) -> None:
        super().__init__(half, **values)
        self.health = Health()

    def attach_server(self, server: Server, certificates: PortCertificates, address: str) -> None:
        """Remember what serves this worker, over what, and where."""
        self._server = server
        self._certificates = certificates
        self.address = address

    @property
    def trust(self) -> Trust:
        """What clients are told of the channel to it."""
        return self._certificates.trust

    def wait(self) -> None:
        """Wait until the server ends.

        Raises
        ------
        WorkerUnavailableError
            If it ended because a thread died that serves.
        """
        with contextlib.suppress(KeyboardInterrupt):
            self._server.wait_for_termination()

    def drain(self, timeout_seconds: float) -> bool:
        """Finish the steps that are under way, send their replies, and serve nobody any more."""
        self.health.end()
        is_finished = super().drain(timeout_seconds)
        self._server.stop(grace=LAST_REPLIES_SECONDS).wait()
        return is_finished

    def stop(self) -> None:
        """End the server and the worker's thread."""
        self._server.stop(grace=0).wait()
        super().stop()


def host_worker(
    model: Model,
    worker: Worker = DEFAULTS,
    *,
    lowest_cut: int = Planning().min_cut,
    max_message_bytes: int = Link().max_message_bytes,
    writer_token: str = "",
    tells_clients: bool = True,
    updates: Mapping[str, LowRank] | None = None,
) -> HostedWorker:
    """Load the worker's half and start serving it.

    Parameters
    ----------
    model
        What is loaded.
    worker
        Where it listens and computes, and what it allows.
    lowest_cut
        The first block that is held.
    max_message_bytes
        Larger messages are refused in both directions.
    writer_token
        Opens sessions that write texts, beside the operator's; empty for none.
    tells_clients
        Whether clients are told its address; if not, its certificate may be for other hosts.
    updates
        The global adapter that it begins with; None for none.

    Raises
    ------
    AdapterError
        If the adapter is not one of the model.
    UnsupportedModelError
        If the model cannot be split or loaded.
    ConfigError
        If a certificate file cannot be used, or the address cannot be listened on.
    """
    certificates = PortCertificates(worker, tells_clients=tells_clients)
    if worker.num_threads:
        torch.set_num_threads(worker.num_threads)
    hosted = _loaded(model, worker, lowest_cut, max_message_bytes)
    # Before anybody can ask: who writes is refused by a worker that has no adapter yet.
    if updates:
        hosted.load_update(updates)
    _serve(hosted, worker, certificates, max_message_bytes, writer_token)
    return hosted


def _serve(
    hosted: HostedWorker,
    worker: Worker,
    certificates: PortCertificates,
    max_message_bytes: int,
    writer_token: str,
) -> None:
    server, port = serve(
        hosted,
        host=worker.host,
        port=worker.port,
        operator_token=worker.operator_token or None,
        writer_token=writer_token,
        max_message_bytes=max_message_bytes,
        patience_seconds=worker.session_timeout_seconds,
        credentials=certificates.credentials(),
        health=hosted.health,
    )
    hosted.attach_server(server, certificates, f"{worker.advertised_host or worker.host}:{port}")


def _loaded(model: Model, worker: Worker, lowest_cut: int, max_message_bytes: int) -> HostedWorker:
    """The worker without anything that serves it."""
    revision = model.revision or None
    architecture = read_architecture(Checkpoint(source=model.name, revision=revision).config())
    architecture.check_cut(lowest_cut)
    device, dtype = device_of(worker.device), floating_dtype(model.computes_in)
    half = load_half(
        model.name,
        Parts.of_worker(lowest_cut, architecture.num_blocks),
        revision=revision,
        dtype=dtype,
        device=device,
        attention=model.attention or None,
        quantised=model.quantised,
    )
    half.checkpointing = worker.checkpointing
    profile = machine_profile(device, dtype)
    return HostedWorker(
        half,
        model=model.name,
        memory_bytes=profile.memory_bytes,
        flops_per_second=profile.flops_per_second,
        sessions=Sessions(
            max_sessions=worker.max_sessions, timeout_seconds=worker.session_timeout_seconds
        ),
        max_sessions_per_pass=worker.max_sessions_per_pass,
        max_message_bytes=max_message_bytes,
    )


def device_of(name: str) -> str:
    """``auto`` is the GPU where there is one.

    Raises
    ------
    ConfigError
        If there is no such device here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"device {name!r} cannot be used here ({reason}): auto, cpu, or a GPU that torch sees, "
            "such as cuda:0, is wanted"
        ) from error
    return name
