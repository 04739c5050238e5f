"""A network link of a given delay and rate, as a TCP proxy on this machine."""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

CHUNK_BYTES: Final = 2**14

# When each piece arrives, and the piece; an empty one ends them.
UnderWay = queue.SimpleQueue[tuple[float, bytes]]


@dataclass(frozen=True, kw_only=True)
class Link:
    """Round trip, and the rate in each direction as the client sees it."""

    round_trip_seconds: float
    up_bits_per_second: float
    down_bits_per_second: float

    @classmethod
    def even(cls, round_trip_seconds: float, bits_per_second: float) -> "Link":
        """As fast up as down."""
        return cls(
            round_trip_seconds=round_trip_seconds,
            up_bits_per_second=bits_per_second,
            down_bits_per_second=bits_per_second,
        )


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
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            # Wakes the thread that accepts.
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, target: tuple[str, int], link: Link) -> None:
    with suppress(OSError):
        while True:
            near, _ = listening.accept()
            far = socket.create_connection(target)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            latency_seconds = link.round_trip_seconds / 2
            _carry(near, far, link.up_bits_per_second, latency_seconds)
            _carry(far, near, link.down_bits_per_second, latency_seconds)


def _carry(
    source: socket.socket, sink: socket.socket, bits_per_second: float, latency_seconds: float
) -> None:
    under_way: UnderWay = queue.SimpleQueue()
    entering = (source, under_way, bits_per_second, latency_seconds)
    for target, args in ((_enter, entering), (_leave, (under_way, sink))):
        threading.Thread(target=target, args=args, daemon=True).start()


def _enter(
    source: socket.socket, under_way: UnderWay, bits_per_second: float, latency_seconds: float
) -> None:
    """Read no faster than the rate; say when each piece arrives at the other end."""
    free_at = 0.0
    data = b"-"
    while data:
        try:
            data = source.recv(CHUNK_BYTES)
        except OSError:
            data = b""
        free_at = max(free_at, time.perf_counter()) + 8 * len(data) / bits_per_second
        under_way.put((free_at + latency_seconds, data))
        sleep_until(free_at)


def _leave(under_way: UnderWay, sink: socket.socket) -> None:
    with suppress(OSError):
        while True:
            due, data = under_way.get()
            sleep_until(due)
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)


def sleep_until(moment: float) -> None:
    """Sleep until the performance counter says so; not at all if it is past that."""
    time.sleep(max(0.0, moment - time.perf_counter()))
