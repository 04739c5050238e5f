"""What crosses the cut, and how: between a client and the split worker."""

from ..types import LONGEST_ROUND_SECONDS, WireType
from .fields import setting
from .privacy import Privacy

GRANT_MORE = "raise link.in-flight"
"""What to do where more requests are to be unanswered."""
MEBIBYTE = 2**20
# What protobuf itself can carry is below 2 GiB.
MOST_MESSAGE_MB = 2047


class WireFormat(Privacy):
    """What a session and its client must agree on."""

    wire_type: WireType | None = setting(
        None, "Type of hidden states on the wire; empty is that of the base.", strict=False
    )
    wire_gradient_type: WireType | None = setting(
        None, "Type of their gradients; empty is that of hidden states.", strict=False
    )
    in_flight: int = setting(
        4, "Micro-batches that a client may have on the wire, unanswered.", ge=1
    )

    @property
    def max_unanswered(self) -> int:
        """How many requests of a session may be on the worker's side without a reply."""
        return self.in_flight


class Link(WireFormat):
    """How client and worker talk."""

    max_message_mb: int = setting(
        64,
        "Largest message; larger ones are refused on both sides.",
        unit="MB of 2^20 bytes",
        ge=1,
        le=MOST_MESSAGE_MB,
    )
    step_timeout_seconds: float = setting(
        120.0,
        "How long an answer may take.",
        unit="seconds",
        gt=0,
        le=LONGEST_ROUND_SECONDS,
    )
    patience_seconds: float | None = setting(
        None,
        "How long a worker that does not answer is tried again. None said is as long as the round "
        "may last for a worker that runs alone, or two minutes while it has not answered yet in "
        "that round; two minutes where it ends with the ServerApp, and ten seconds where others of "
        "a pool take over.",
        unit="seconds",
        ge=0,
        le=LONGEST_ROUND_SECONDS,
    )

    @property
    def max_message_bytes(self) -> int:
        return self.max_message_mb * MEBIBYTE
