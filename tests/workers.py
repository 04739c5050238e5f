"""A split worker of a tiny family, in this process, reached directly and over the loopback."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from hsplit_flower.splitting import Half, Parts, load_half
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.transport.streams import InProcessStream, Stream
from hsplit_flower.types import WireType
from hsplit_flower.wire.messages import Reply
from hsplit_flower.worker import Sessions, SplitWorker
from hsplit_flower.worker.service import serve
from tests.families import FAMILIES, NUM_BLOCKS, checkpoint

OPERATOR_TOKEN = "the operator's token"
PATIENT = ChannelSettings(num_tries=8, pause_seconds=0.05, step_timeout_seconds=20.0)

Connect = Callable[["Worker", str, WireType], Stream]


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker with the parts that tests look at, and where it is served."""

    worker: SplitWorker
    half: Half
    sessions: Sessions
    address: str


def load_client(name: str, cut: int, *, keeps_labels: bool = False) -> Half:
    """A client's half of a tiny family."""
    return load_half(
        str(checkpoint(name)),
        Parts.of_client(cut, keeps_labels=keeps_labels),
        attention=FAMILIES[name].attention,
    )


def load_worker(name: str, lowest_cut: int = 1, dtype: torch.dtype = torch.float32) -> Half:
    """A worker's half of a tiny family."""
    return load_half(
        str(checkpoint(name)),
        Parts.of_worker(lowest_cut, NUM_BLOCKS),
        attention=FAMILIES[name].attention,
        dtype=dtype,
    )


def split_worker(half: Half, sessions: Sessions | None = None, **values: Any) -> SplitWorker:
    """A worker that says of its device what tests can recognise."""
    return SplitWorker(
        half,
        model="a tiny model",
        memory_bytes=3e9,
        flops_per_second=2e12,
        sessions=sessions,
        **values,
    )


@contextmanager
def running_worker(
    name: str,
    sessions: Sessions | None = None,
    *,
    lowest_cut: int = 1,
    dtype: torch.dtype = torch.float32,
    **limits: float,
) -> Iterator[Worker]:
    """A worker of a family that is served on a free port until the block ends."""
    half = load_worker(name, lowest_cut, dtype)
    with running_worker_of(half, sessions, **limits) as running:
        yield running


@contextmanager
def running_worker_of(
    half: Half, sessions: Sessions | None = None, **limits: float
) -> Iterator[Worker]:
    """The same of a half that is there."""
    sessions = Sessions() if sessions is None else sessions
    worker = split_worker(half, sessions)
    server, port = serve(worker, host="127.0.0.1", port=0, operator_token=OPERATOR_TOKEN, **limits)
    try:
        yield Worker(worker=worker, half=half, sessions=sessions, address=f"127.0.0.1:{port}")
    finally:
        server.stop(grace=None).wait()
        worker.stop()


def in_process(worker: Worker, token: str, wire_type: WireType = WireType.FLOAT32) -> Stream:
    """A exchange with a session without a network."""
    return InProcessStream(lambda request: worker.worker.exchange(token, request), wire_type)


def over_grpc(worker: Worker, token: str, wire_type: WireType = WireType.FLOAT32) -> Stream:
    """A exchange with a session over the loopback."""
    return GrpcStream(worker.address, token, wire_type, PATIENT)


def after(future: "Future[Reply]", change: Callable[[Reply], Reply]) -> "Future[Reply]":
    """What a worker's reply becomes by a change; errors stay as they are."""
    changed: Future[Reply] = Future()
    changed.set_running_or_notify_cancel()

    def hand_on(done: "Future[Reply]") -> None:
        try:
            changed.set_result(change(done.result()))
        except BaseException as error:
            changed.set_exception(error)

    future.add_done_callback(hand_on)
    return changed


TRANSPORTS: dict[str, Connect] = {"in-process": in_process, "grpc": over_grpc}


@contextmanager
def exchange(connect: Connect, worker: Worker, token: str) -> Iterator[Stream]:
    """A stream that is closed when the block ends, its session too."""
    with closing(connect(worker, token, WireType.FLOAT32)) as stream:
        yield stream
    worker.worker.close(token)
