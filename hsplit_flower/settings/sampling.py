"""Who takes part in a round, under the names that Flower's own strategies use."""

from ..types import LONGEST_ROUND_SECONDS
from .fields import setting
from .group import Settings

_FRACTION = "a fraction from 0 to 1"


class Sampling(Settings):
    """How many nodes train and evaluate, and what their messages' records are called."""

    fraction_train: float = setting(
        1.0, "Share of the connected nodes that train in a round.", wanted=_FRACTION, ge=0, le=1
    )
    fraction_evaluate: float = setting(
        1.0, "Share of the connected nodes that evaluate in a round.", wanted=_FRACTION, ge=0, le=1
    )
    min_train_nodes: int = setting(
        2, "Fewest nodes that are sampled to train, and must finish for the round to count.", ge=0
    )
    min_evaluate_nodes: int = setting(
        2, "Fewest nodes that are sampled to evaluate, and must finish.", ge=0
    )
    min_available_nodes: int = setting(
        2, "Fewest nodes that are connected before a round starts.", ge=0
    )
    wait_seconds: float = setting(
        3600.0,
        "How long a round waits for them; then the run ends, and can go on later.",
        unit="seconds",
        gt=0,
        le=LONGEST_ROUND_SECONDS,
    )
    arrayrecord_key: str = setting("arrays", "Of the adapter in messages to clients.")
    configrecord_key: str = setting("config", "Of the user's own config in messages to clients.")

    @property
    def least_training(self) -> int:
        """How many nodes must train in a round, where any do."""
        return self.min_train_nodes if self.fraction_train else 0

    @property
    def least_evaluating(self) -> int:
        """How many nodes must evaluate, where any do."""
        return self.min_evaluate_nodes if self.fraction_evaluate else 0
