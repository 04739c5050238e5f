"""A split worker with a port of its own: in the ServerApp's process, or alone."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from ..adapters import LowRank
from ..devices import machine_profile
from ..errors import ConfigError
from ..splitting import Parts, load_half, read_architecture
from ..splitting.checkpoint import Checkpoint
from ..transport.channel import Server, ServerCredentials
from ..types import SessionSpec, WorkerDescription
from ..wire.factors import SessionResult
from .service import serve
from .session import MAX_SESSIONS, Sessions
from .worker import SplitWorker


class WorkerHandle(Protocol):
    """A split worker as the strategy sees it, wherever it runs."""

    address: str

    def describe(self) -> WorkerDescription:
        """What the worker holds and has."""

    def load_update(self, updates: Mapping[str, LowRank]) -> None:
        """Make ``updates`` the global adapter of the next sessions; those left open are closed."""

    def open(self, spec: SessionSpec) -> str:
        """Open a session and give its token."""

    def steps(self) -> Mapping[int, int]:
        """How many steps each open session has done, by client."""

    def collect(self, token: str) -> SessionResult:
        """What a session has learnt so far."""

    def close(self, token: str) -> None:
        """End a session."""

    def stop(self) -> None:
        """Let go of the worker."""


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Where a worker listens, what it loads, and what it allows.

    ``host`` is listened on and ``advertised_host``, by default the same, is told to clients; port 0
    takes a free one. ``num_threads`` 0 leaves torch's own choice. ``checkpointing`` keeps
    nothing but the blocks' inputs for the backward pass, which runs each of them once more.
    """

    model: str
    revision: str = ""
    lowest_cut: int = 1
    dtype: str = "float32"
    attention: str = ""
    device: str = "auto"
    host: str = "127.0.0.1"
    advertised_host: str = ""
    port: int = 0
    max_message_bytes: int = 64 * 2**20
    max_sessions: int = MAX_SESSIONS
    session_timeout_seconds: float = 600.0
    num_threads: int = 0
    checkpointing: bool = False
    operator_token: str | None = field(default=None, repr=False)
    credentials: ServerCredentials | None = None


class HostedWorker(SplitWorker):
    """A split worker that is served over gRPC from this process."""

    address: str

    def attach_server(self, server: Server, address: str) -> None:
        """Remember what serves this worker, and where."""
        self._server = server
        self.address = address

    def wait(self) -> None:
        """Wait until the server ends."""
        with contextlib.suppress(KeyboardInterrupt):
            self._server.wait_for_termination()

    def stop(self) -> None:
        """End the server and the worker's thread."""
        self._server.stop(grace=0).wait()
        super().stop()


def host_worker(settings: WorkerSettings) -> HostedWorker:
    """Load the worker's half and start serving it.

    Raises
    ------
    UnsupportedModelError
        If the model cannot be split or loaded.
    ConfigError
        If the address cannot be listened on.
    """
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
    revision = settings.revision or None
    architecture = read_architecture(Checkpoint(source=settings.model, revision=revision).config())
    architecture.check_cut(settings.lowest_cut)
    device, dtype = device_of(settings.device), getattr(torch, settings.dtype)
    half = load_half(
        settings.model,
        Parts.of_worker(settings.lowest_cut, architecture.num_blocks),
        revision=revision,
        dtype=dtype,
        device=device,
        attention=settings.attention or None,
        architecture=architecture,
    )
    half.checkpointing = settings.checkpointing
    profile = machine_profile(device, dtype)
    worker = HostedWorker(
        half,
        model=settings.model,
        memory_bytes=profile.memory_bytes,
        flops_per_second=profile.flops_per_second,
        sessions=Sessions(
            max_sessions=settings.max_sessions, timeout_seconds=settings.session_timeout_seconds
        ),
    )
    server, port = serve(
        worker,
        host=settings.host,
        port=settings.port,
        operator_token=settings.operator_token,
        max_message_bytes=settings.max_message_bytes,
        patience_seconds=settings.session_timeout_seconds,
        credentials=settings.credentials,
    )
    worker.attach_server(server, f"{settings.advertised_host or settings.host}:{port}")
    return worker


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
