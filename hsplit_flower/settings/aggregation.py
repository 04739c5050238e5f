"""How what clients have trained becomes the global adapter."""

from ..types import Dividing
from .fields import setting
from .group import Settings


class Aggregation(Settings):
    """Options of a method that aggregates exactly."""

    rank_cap: int = setting(
        0,
        "Largest rank of the global adapter, 0 for none; what it cuts off is kept for later "
        "rounds.",
        ge=0,
    )
    momentum: float = setting(
        0.0,
        "How much of the round before each round also goes: helps where steps are small or "
        "clients' data differ.",
        ge=0,
        lt=1,
    )
    dividing: Dividing = setting(
        Dividing.ALL,
        "Over whom a weight's mean is taken when not every client adapts it: all or its holders.",
        strict=False,
    )
