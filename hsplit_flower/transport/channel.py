"""Channels and servers: message limits, deadlines, retries."""

import math
import resource
from dataclasses import dataclass, replace

import grpc

from ..errors import ConfigError
from ..settings import Link
from .security import PLAIN, Security

KEEPALIVE_SECONDS, KEEPALIVE_TIMEOUT_SECONDS = 60.0, 60.0
"""After how long without a byte a connection is asked for a sign of life; and how long it has.

On a slow link the sign comes after what is in the buffers before it.
"""


HANDSHAKE_SECONDS = 1.5
"""How long whoever connects has until the connection is one of HTTP/2, secured if it is to be."""
IDLE_SECONDS = 2.0
"""How long a connection without a call is kept by a server; clients of ours end it before that."""
MOST_STREAMS = 100
"""Calls of one connection at a time."""
MOST_PAUSE_SECONDS = 5.0
"""Between two tries: a worker that is back is found within that."""
RESERVED_DESCRIPTORS = 64
"""Open files that are kept for something else than connections."""


@dataclass(frozen=True, kw_only=True)
class ChannelSettings:
    """How patiently a client talks to the split worker, and how large its messages are.

    A worker that does not answer is tried ``num_tries`` times, and then on until it has been silent
    for ``patience_seconds``; where it never has answered, for ``first_patience_seconds`` at most,
    unless these are 0.
    """

    max_message_bytes: int = Link().max_message_bytes
    step_timeout_seconds: float = Link().step_timeout_seconds
    num_tries: int = 5
    pause_seconds: float = 0.25
    patience_seconds: float = 0.0
    first_patience_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_message_bytes", "step_timeout_seconds", "num_tries", "pause_seconds"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a positive number, got {value}")

    @classmethod
    def of(cls, link: Link) -> "ChannelSettings":
        """As a run's link is set."""
        return cls(
            max_message_bytes=link.max_message_bytes,
            step_timeout_seconds=link.step_timeout_seconds,
            patience_seconds=link.patience_seconds or 0.0,
        )

    def before_any_answer(self) -> "ChannelSettings":
        """The same towards a worker that has not answered yet."""
        most = self.first_patience_seconds or math.inf
        return replace(self, patience_seconds=min(self.patience_seconds, most))

    def pause_before(self, attempt: int) -> float:
        """Seconds to wait before a try, counted from 0: none, then a pause that doubles."""
        if not attempt:
            return 0.0
        return float(min(MOST_PAUSE_SECONDS, self.pause_seconds * 2 ** min(attempt - 1, 30)))

    def tries_again(self, num_tries: int, silent_seconds: float) -> bool:
        """Whether there is another try after so many, in so long a silence."""
        return num_tries < self.num_tries or silent_seconds < self.patience_seconds


def open_channel(
    address: str, settings: ChannelSettings, security: Security = PLAIN
) -> grpc.Channel:
    """A channel to ``host:port``; nothing is sent yet."""
    options = [*message_options(settings.max_message_bytes), *_keepalive_options()]
    # A lost connection is tried anew before the settings' own pause is over, or that would be idle.
    # By itself gRPC would double its pauses up to two minutes, and miss a worker that is back.
    for name, pause_seconds in (("initial", settings.pause_seconds), ("max", MOST_PAUSE_SECONDS)):
        options.append((f"grpc.{name}_reconnect_backoff_ms", _milliseconds(pause_seconds / 2)))
    options.append(("grpc.client_idle_timeout_ms", _milliseconds(IDLE_SECONDS / 2)))
    credentials = security.credentials()
    if credentials is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, credentials, options=options)


def message_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """gRPC options that bound a message in both directions."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]


def server_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """gRPC options of a server, which bound what it keeps for whoever connects.

    Clients may ask for signs of life as often as ours do.
    """
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    bounds = [
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(KEEPALIVE_SECONDS / 2)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(HANDSHAKE_SECONDS)),
        ("grpc.max_connection_idle_ms", _milliseconds(IDLE_SECONDS)),
        ("grpc.max_concurrent_streams", MOST_STREAMS),
    ]
    if descriptors != resource.RLIM_INFINITY:
        most = max(1, descriptors - RESERVED_DESCRIPTORS)
        bounds.append(("grpc.max_allowed_incoming_connections", most))
    return [*message_options(max_message_bytes), *_keepalive_options(), *bounds]


def _keepalive_options() -> list[tuple[str, int]]:
    """Ask for a sign of life where nothing moves: a connection that is dead would stay open."""
    return [
        ("grpc.keepalive_time_ms", _milliseconds(KEEPALIVE_SECONDS)),
        ("grpc.keepalive_timeout_ms", _milliseconds(KEEPALIVE_TIMEOUT_SECONDS)),
        ("grpc.http2.ping_timeout_ms", _milliseconds(KEEPALIVE_TIMEOUT_SECONDS)),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def _milliseconds(seconds: float) -> int:
    return max(1, int(1000 * seconds))
