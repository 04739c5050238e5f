"""What a run asks of each client's process."""

from .fields import setting
from .group import Settings


class Client(Settings):
    """How a client is held to its budget, and what it keeps between rounds."""

    enforce_budgets: bool = setting(
        True,
        "Whether a client that takes more than its memory is stopped, and planned lower. What a "
        "node's own memory-gb grants holds in any case.",
    )
    cached_halves: int = setting(
        1,
        "Loaded halves that a client's process keeps for later messages; one at most where a "
        "device is held to its budget, not where simulated clients share a process.",
        ge=0,
    )
