"""What a stream counts is what goes over the wire, and its waits are where the time went."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace

import pytest
import torch

from hsplit_flower.errors import CodecError
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.transport.traffic import PREFIX_BYTES, Traffic, TrafficMeter
from hsplit_flower.types import WireType
from hsplit_flower.wire.messages import Forward, Loss, reply_from_wire, reply_to_wire
from tests.transport.one_session import FAMILY, SPEC
from tests.workers import PATIENT, Worker, running_worker

NUM_STEPS = 3
# Some three hundred kilobytes a message: a step of a small model.
HIDDEN = torch.randn(512, 9, 16, generator=torch.Generator().manual_seed(0))
FORWARD = Forward(step=1, hidden=HIDDEN, labels=torch.ones(512, 9, dtype=torch.long))


@dataclass
class Counted:
    """Bytes that went through a proxy, all of them: frames, headers, settings."""

    address: str = ""
    up_bytes: int = 0
    down_bytes: int = 0


@contextmanager
def counting_proxy(address: str, *, delay_seconds: float = 0.0) -> Iterator[Counted]:
    """An address that reaches another one, every byte counted, and each piece held up so long."""
    host, _, port = address.rpartition(":")
    counted = Counted()

    def carry(source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                if is_up:
                    counted.up_bytes += len(data)
                else:
                    counted.down_bytes += len(data)
                time.sleep(delay_seconds)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def connect(near: socket.socket) -> None:
        with near, socket.create_connection((host, int(port))) as far:
            ways = ((near, far, True), (far, near, False))
            threads = [threading.Thread(target=carry, args=way, daemon=True) for way in ways]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                connections.append(threading.Thread(target=connect, args=(near,), daemon=True))
                connections[-1].start()

    connections: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        counted.address = f"127.0.0.1:{listening.getsockname()[1]}"
        try:
            yield counted
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *connections):
                thread.join(timeout=10.0)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with running_worker(FAMILY) as running:
        yield running


@pytest.mark.parametrize("wire_type", [WireType.FLOAT32, WireType.INT8], ids=str)
def test_bytes_are_those_of_the_wire_to_a_hundredth(worker: Worker, wire_type: WireType) -> None:
    token = worker.worker.open(SPEC.replace(wire_type=wire_type))
    with (
        counting_proxy(worker.address) as counted,
        closing(GrpcStream(counted.address, token, wire_type, PATIENT)) as stream,
    ):
        assert stream.traffic == Traffic()
        for step in range(1, NUM_STEPS + 1):
            stream.exchange(replace(FORWARD, step=step))
        told = stream.traffic
    assert told.up_bytes == pytest.approx(counted.up_bytes, rel=0.01)
    assert told.down_bytes == pytest.approx(counted.down_bytes, rel=0.01)
    assert told.up_bytes > NUM_STEPS * HIDDEN.numel()
    # The worker counts the same, and the goodbye besides.
    done = worker.worker.work_done()
    assert done.up_bytes[SPEC.client] == pytest.approx(told.up_bytes, abs=50)
    assert done.down_bytes[SPEC.client] == told.down_bytes
    worker.worker.close(token)
    assert worker.worker.work_done().up_bytes == {}


def test_what_is_sent_again_counts_again() -> None:
    meter = TrafficMeter()
    meter.sent(10)
    meter.sent(10)
    meter.received(7)
    told = meter.traffic
    assert (told.up_bytes, told.down_bytes) == (2 * (10 + PREFIX_BYTES), 7 + PREFIX_BYTES)


def test_a_wait_is_divided_as_the_reply_was_under_way() -> None:
    meter = TrafficMeter()
    meter.waited(2.0, under_way_seconds=8.0, worker_seconds=6.0)
    meter.waited(1.0, under_way_seconds=1.0, worker_seconds=5.0)
    meter.waited(0.0, under_way_seconds=0.0, worker_seconds=0.0)
    told = meter.traffic
    assert (told.worker_seconds, told.link_seconds) == (1.5 + 1.0, 0.5)


def test_a_far_worker_is_waited_for_on_the_link(worker: Worker) -> None:
    with counting_proxy(worker.address, delay_seconds=0.1) as far:
        told = _waits(worker, far.address)
    # There and back, each of them once a step at least.
    assert told.link_seconds >= NUM_STEPS * 2 * 0.1
    assert told.worker_seconds < told.link_seconds


def test_a_busy_worker_is_waited_for_there(worker: Worker) -> None:
    """Something else holds it for a while before every step."""
    executor = worker.worker._executor
    told = _waits(worker, worker.address, before=lambda: executor.submit(lambda: time.sleep(0.2)))
    assert told.worker_seconds >= NUM_STEPS * 0.15
    assert told.link_seconds < told.worker_seconds


@pytest.mark.parametrize("told", [-1.0, float("inf"), float("nan")])
def test_a_worker_cannot_say_that_it_took_no_time_at_all(told: float) -> None:
    reply = Loss(step=1, loss_sum=1.0, num_tokens=1, worker_seconds=told)
    with pytest.raises(CodecError, match="zero or more is wanted"):
        reply_from_wire(reply_to_wire(reply, WireType.FLOAT32))


def _waits(worker: Worker, address: str, before: Callable[[], object] = lambda: None) -> Traffic:
    """What some steps of a new session are waited for, once it is connected."""
    token = worker.worker.open(SPEC)
    small = replace(FORWARD, hidden=HIDDEN[:2], labels=FORWARD.labels[:2])
    with closing(GrpcStream(address, token, WireType.FLOAT32, PATIENT)) as stream:
        stream.exchange(small)
        start = stream.traffic
        for step in range(2, NUM_STEPS + 2):
            before()
            stream.exchange(replace(small, step=step))
        end = stream.traffic
    worker.worker.close(token)
    return Traffic(
        worker_seconds=end.worker_seconds - start.worker_seconds,
        link_seconds=end.link_seconds - start.link_seconds,
    )
