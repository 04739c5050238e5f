"""How what clients have trained becomes the global adapter."""

from ..types import AdapterType, Dividing
from .comparison import Comparison
from .fields import setting

USUAL_CAP = 32
"""What many servers of adapters take at least, if they are told."""


class Aggregation(Comparison):
    """Options of a method that aggregates exactly, and how far any method believes one client."""

    mean_rank: int = setting(
        32,
        "Size of the global adapter: it has at most as many numbers as this rank on every weight "
        "would, spent where most was learnt. The server keeps the rest for later rounds. 0 sends "
        "all of it, which grows with every round.",
        ge=0,
    )
    rank_cap: int | None = setting(
        None,
        "Largest rank of one weight in a global adapter of bounded size, and so of the one that is "
        "written; 0 for no limit, none said is 32, or mean-rank where that is more.",
        ge=0,
    )
    adapter_dtype: AdapterType = setting(
        AdapterType.FLOAT16,
        "What the factors of a global adapter of bounded size are rounded to; the server keeps "
        "what rounding leaves, too.",
        strict=False,
    )
    drop_below: float = setting(
        0.0,
        "What the global adapter has no room for is given up where it is at most this share of a "
        "weight's squared norm; with 0 the server keeps all of it, with 1 nothing.",
        ge=0,
        le=1,
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

    @property
    def sums_otherwise(self) -> bool:
        """Whether something is said that only a method can have that sums exactly."""
        return any(
            getattr(self, field.name) != field.default
            for field in type(self).known()
            if field.name not in Comparison.model_fields
        )

    @property
    def is_bounded(self) -> bool:
        """Whether the global adapter has a size that it does not pass."""
        return self.mean_rank > 0

    @property
    def largest_rank(self) -> int | None:
        """What a weight of a bounded adapter may have at most; None for no limit."""
        if self.rank_cap is None:
            return max(USUAL_CAP, self.mean_rank)
        return self.rank_cap or None
