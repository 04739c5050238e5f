"""A network link of a given delay and rate, as a TCP proxy on this machine."""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

CHUNK_BYTES: Final = 2**16


@dataclass(frozen=True, kw_only=True)
class Link:
    """Round trip and rate in each direction."""

    round_trip_seconds: float
    bits_per_second: float

    def __str__(self) -> str:
        return f"{self.round_trip_seconds * 1e3:g} ms, {self.bits_per_second / 1e6:g} Mbit/s"


@contextmanager
def shaped(address: str, link: Link) -> Iterator[str]:
    """An address that reaches another one over a link.

    What is read is passed on half a round trip after it would have been through the link at its
    rate; no more is read than that. Nothing is lost and nothing overtakes.
    """
    host, _, port = address.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(
            target=_accept, args=(listening, (host, int(port)), link), daemon=True
        ).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, target: tuple[str, int], link: Link) -> None:
    with suppress(OSError):
        while True:
            near, _ = listening.accept()
            far = socket.create_connection(target)
            for source, sink in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _carry(source, sink, link)


def _carry(source: socket.socket, sink: socket.socket, link: Link) -> None:
    under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
    for target, args in ((_enter, (source, under_way, link)), (_leave, (under_way, sink))):
        threading.Thread(target=target, args=args, daemon=True).start()


def _enter(
    source: socket.socket, under_way: "queue.SimpleQueue[tuple[float, bytes]]", link: Link
) -> None:
    """Read no faster than the rate; say when each piece arrives at the other end."""
    free_at = 0.0
    data = b"-"
    while data:
        try:
            data = source.recv(CHUNK_BYTES)
        except OSError:
            data = b""
        free_at = max(free_at, time.monotonic()) + 8 * len(data) / link.bits_per_second
        under_way.put((free_at + link.round_trip_seconds / 2, data))
        _sleep_until(free_at)


def _leave(under_way: "queue.SimpleQueue[tuple[float, bytes]]", sink: socket.socket) -> None:
    with suppress(OSError):
        while True:
            due, data = under_way.get()
            _sleep_until(due)
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)


def _sleep_until(moment: float) -> None:
    if (seconds := moment - time.monotonic()) > 0:
        time.sleep(seconds)
