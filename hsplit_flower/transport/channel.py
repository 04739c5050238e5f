"""Channels and servers: message limits, deadlines, retries, and where credentials go."""

import math
from dataclasses import dataclass

import grpc
from grpc import Server as Server
from grpc import ServerCredentials as ServerCredentials

from ..errors import ConfigError

KEEPALIVE_SECONDS, KEEPALIVE_TIMEOUT_SECONDS = 60.0, 60.0
"""After how long without a byte a connection is asked for a sign of life; and how long it has.

On a slow link the sign comes after what is in the buffers before it.
"""


@dataclass(frozen=True, kw_only=True)
class ChannelSettings:
    """How a client talks to the split worker.

    ``credentials`` None is a plain channel, for loopback and trusted networks.
    """

    max_message_bytes: int = 64 * 2**20
    step_timeout_seconds: float = 120.0
    num_tries: int = 5
    pause_seconds: float = 0.25
    credentials: grpc.ChannelCredentials | None = None

    def __post_init__(self) -> None:
        for name in ("max_message_bytes", "step_timeout_seconds", "num_tries", "pause_seconds"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a positive number, got {value}")

    def pause_before(self, attempt: int) -> float:
        """Seconds to wait before a try, counted from 0: none, then a pause that doubles."""
        return self.pause_seconds * 2 ** (attempt - 1) if attempt else 0.0


def open_channel(address: str, settings: ChannelSettings) -> grpc.Channel:
    """A channel to ``host:port``; nothing is sent yet."""
    options = [*message_options(settings.max_message_bytes), *_keepalive_options()]
    # A lost connection is tried anew before the settings' own pause is over, or that would be idle.
    options.append(("grpc.initial_reconnect_backoff_ms", max(1, int(500 * settings.pause_seconds))))
    if settings.credentials is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, settings.credentials, options=options)


def message_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """gRPC options that bound a message in both directions."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]


def server_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """gRPC options of a server, which lets clients ask for signs of life as often as ours do."""
    shortest = (
        "grpc.http2.min_ping_interval_without_data_ms",
        _milliseconds(KEEPALIVE_SECONDS / 2),
    )
    return [*message_options(max_message_bytes), *_keepalive_options(), shortest]


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


def token_metadata(key: str, token: str) -> tuple[tuple[str, str], ...]:
    """A call's metadata that carries a token."""
    return ((key, token),)


def token_from(context: grpc.ServicerContext, key: str) -> str | None:
    """The token in a call's metadata, if there is one."""
    for name, value in context.invocation_metadata() or ():
        if name == key and isinstance(value, str):
            return value
    return None
