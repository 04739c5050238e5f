"""What goes over a stream, and how long it is waited for, as it is measured."""

import threading
from dataclasses import dataclass, replace

# Before each message gRPC says in so many bytes whether it is compressed, and how long it is.
PREFIX_BYTES = 5


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """A client's exchange with its session so far.

    Attributes
    ----------
    up_bytes, down_bytes
        Messages that were sent and received, with what gRPC puts before each; what is sent again
        counts again. The frames of HTTP/2 and TLS, well below a hundredth, do not.
    worker_seconds, link_seconds
        How long the client waited for replies: while the worker had the request, as it says
        itself, and while bytes were under way.
    """

    up_bytes: int = 0
    down_bytes: int = 0
    worker_seconds: float = 0.0
    link_seconds: float = 0.0


class TrafficMeter:
    """Adds traffic up; several threads may have a hand in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._traffic = Traffic()

    @property
    def traffic(self) -> Traffic:
        """All so far."""
        return self._traffic

    def sent(self, num_bytes: int) -> None:
        """A message has gone out."""
        with self._lock:
            up_bytes = self._traffic.up_bytes + num_bytes + PREFIX_BYTES
            self._traffic = replace(self._traffic, up_bytes=up_bytes)

    def received(self, num_bytes: int) -> None:
        """A message has come in."""
        with self._lock:
            down_bytes = self._traffic.down_bytes + num_bytes + PREFIX_BYTES
            self._traffic = replace(self._traffic, down_bytes=down_bytes)

    def waited(self, seconds: float, *, under_way_seconds: float, worker_seconds: float) -> None:
        """A reply was waited for.

        Parameters
        ----------
        seconds
            How long; the client did nothing else meanwhile.
        under_way_seconds
            From its request to the reply: more than that where others were sent meanwhile.
        worker_seconds
            How much of that the worker had the request, as it says. The wait is divided in the
            same proportion.
        """
        share = min(1.0, worker_seconds / under_way_seconds) if under_way_seconds > 0 else 0.0
        with self._lock:
            self._traffic = replace(
                self._traffic,
                worker_seconds=self._traffic.worker_seconds + share * seconds,
                link_seconds=self._traffic.link_seconds + (1.0 - share) * seconds,
            )
