"""Devices and links that are slower than this machine by known factors.

A thread's own processor time is measured and slept on in proportion, so that a slowed device takes
the same time whoever else wants the cores. Bytes on a slowed link really wait for their turn.
"""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import final

from hsplit_flower.transport.messages import Reply, Request
from hsplit_flower.worker.hosting import HostedWorker

CHUNK_BYTES = 2**14


class SlowedWorker(HostedWorker):
    """A split worker whose device is so many times slower; it serves one step at a time."""

    factor = 1.0

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self._device = threading.Lock()

    def exchange(self, token: str | None, request: Request) -> Reply:
        with self._device:
            began = time.perf_counter()
            reply, used = self._timed(token, request)
            sleep_until(began + self.factor * used)
        return reply

    def used_seconds(self, token: str | None, request: Request) -> float:
        """Processor time that a request takes the worker's thread; nothing is slowed."""
        return self._timed(token, request)[1]

    def _timed(self, token: str | None, request: Request) -> tuple[Reply, float]:
        began = self._executor.call(time.thread_time)
        reply = super().exchange(token, request)
        return reply, self._executor.call(time.thread_time) - began


@dataclass(frozen=True, kw_only=True)
class LinkSpeed:
    """Rates and round trip of a client's link, seen from the client."""

    up_bytes_per_second: float
    down_bytes_per_second: float
    round_trip_seconds: float


@contextmanager
def shaped_link(target: str, speed: LinkSpeed) -> Iterator[str]:
    """An address that leads to ``target`` over a link of this speed."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepting = threading.Thread(target=_accept, args=(listener, target, speed), daemon=True)
    accepting.start()
    try:
        host, port = listener.getsockname()
        yield f"{host}:{port}"
    finally:
        # Wakes the thread that accepts.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def sleep_until(moment: float) -> None:
    """Sleep until the performance counter says so; not at all if it is past that."""
    time.sleep(max(0.0, moment - time.perf_counter()))


def _accept(listener: socket.socket, target: str, speed: LinkSpeed) -> None:
    host, port = target.split(":")
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        far = socket.create_connection((host, int(port)))
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        latency = speed.round_trip_seconds / 2
        _Direction(near, far, speed.up_bytes_per_second, latency).start()
        _Direction(far, near, speed.down_bytes_per_second, latency).start()


@final
class _Direction:
    """Carries bytes one way: each chunk takes its time on the line, and arrives a latency later."""

    def __init__(
        self, source: socket.socket, sink: socket.socket, rate: float, latency: float
    ) -> None:
        self._source, self._sink = source, sink
        self._rate, self._latency = rate, latency
        self._on_the_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def start(self) -> None:
        for work in (self._take, self._deliver):
            threading.Thread(target=work, daemon=True).start()

    def _take(self) -> None:
        free = 0.0
        while True:
            chunk = b""
            with suppress(OSError):
                chunk = self._source.recv(CHUNK_BYTES)
            free = max(free, time.perf_counter()) + len(chunk) / self._rate
            self._on_the_way.put((free + self._latency, chunk))
            if not chunk:
                return

    def _deliver(self) -> None:
        while True:
            moment, chunk = self._on_the_way.get()
            sleep_until(moment)
            try:
                if chunk:
                    self._sink.sendall(chunk)
                    continue
                self._sink.shutdown(socket.SHUT_WR)
            except OSError:
                self._source.close()
            return
