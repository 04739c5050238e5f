"""Whoever guesses a token is slowed down: so many wrong ones at once, then one now and then."""

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from ..errors import WorkerUnavailableError

WRONG_AT_ONCE, SECONDS_EACH = 10, 1.0
MOST_PEERS, MOST_CONNECTIONS = 4096, 256


class Guesses:
    """Counts wrong tokens by host, and refuses hosts with too many before a token is looked at.

    A connection on which the right one came before is none of the host's that guesses. What is
    remembered is bounded: who was wrong longest ago is forgotten first.

    Parameters
    ----------
    wrong_at_once
        So many wrong tokens of a host are looked at without a pause.
    seconds_each
        After that, one in so long.
    most_peers
        Hosts that are remembered.
    clock
        Seconds that only go up.
    """

    def __init__(
        self,
        *,
        wrong_at_once: int = WRONG_AT_ONCE,
        seconds_each: float = SECONDS_EACH,
        most_peers: int = MOST_PEERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience_seconds = wrong_at_once * seconds_each
        self._seconds_each = seconds_each
        self._most_peers = most_peers
        self._clock = clock
        self._lock = threading.Lock()
        # By host, until when its wrong tokens last, one after the other.
        self._paid_until: OrderedDict[str, float] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def check(self, peer: str) -> None:
        """Refuse a peer, as gRPC names it, whose host has guessed too often.

        Raises
        ------
        WorkerUnavailableError
            If it has; says how long to wait.
        """
        with self._lock:
            if peer in self._known:
                return
            wait = self._paid_until.get(_host(peer), 0.0) - self._clock() - self._patience_seconds
        if wait > -self._seconds_each:
            raise WorkerUnavailableError(
                f"too many wrong tokens came from {_host(peer)}: try again in "
                f"{max(wait + self._seconds_each, 0.1):.1f} s, with the right one"
            )

    def note(self, peer: str, *, is_right: bool) -> None:
        """Remember what came of a peer's token."""
        with self._lock:
            if is_right:
                _put(self._known, peer, None, MOST_CONNECTIONS)
                return
            self._known.pop(peer, None)
            host, now = _host(peer), self._clock()
            until = max(self._paid_until.get(host, now), now) + self._seconds_each
            _put(self._paid_until, host, until, self._most_peers)

    def __len__(self) -> int:
        return len(self._paid_until)


def _put(entries: OrderedDict, key: str, value: object, most: int) -> None:  # type: ignore[type-arg]
    entries[key] = value
    entries.move_to_end(key)
    while len(entries) > most:
        entries.popitem(last=False)


def _host(peer: str) -> str:
    """Of ``ipv4:10.0.0.1:4711``; all of an IPv6 network of 64 bits are one."""
    kind, _, rest = peer.partition(":")
    host = rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
    if kind != "ipv6":
        return host or peer
    try:
        return str(ipaddress.ip_network(f"{host.partition('%')[0]}/64", strict=False))
    except ValueError:
        return host
