"""What lets a client in to its session."""

from dataclasses import dataclass, field

from ..settings import Trust


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """Where a client's session is, what opens it, and what the client is called."""

    client: str = ""
    worker: int
    address: str
    token: str = field(repr=False)
    trust: Trust
