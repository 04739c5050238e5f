"""One arm of a comparison: what is trained, by whom, and by which rules."""

from dataclasses import dataclass
from enum import Enum

from hsplit_flower.aggregation import Dividing
from hsplit_flower.settings import PlanSettings
from hsplit_flower.types import ScaleRule, Scaling, Start


class Allocation(str, Enum):
    """How a client's adapter bytes become ranks.

    ``UNIFORM``: one rank for all weights, what is left over one rank more for some. ``IMPORTANCE``:
    by importance (HSplitLoRA), uniform in the first round. ``FLOOR``: by importance, but no weight
    below rank 1.
    """

    UNIFORM = "uniform"
    IMPORTANCE = "importance"
    FLOOR = "floor"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one run is made of.

    Attributes
    ----------
    budgets
        Adapter bytes of each client, as the rank that they would give to every weight.
    means
        Whether importance is a weight's mean ``|W G|`` instead of their sum.
    probe_steps
        How many of a round's first steps importance is the mean of; HSplitLoRA's is of one.
    history
        Whether importance is blended over rounds (``β_t``), or today's alone.
    autocast
        Whether products are taken in bfloat16; adapters stay float32.
    """

    model: str
    dataset: str
    seed: int
    budgets: tuple[float, ...]
    learning_rate: float
    lora_alpha: float = 32.0
    scale_rule: ScaleRule = ScaleRule.LORA
    allocation: Allocation = Allocation.IMPORTANCE
    start: Start = Start.CONTINUE
    dividing: Dividing = Dividing.ALL
    rank_unit: int = 1
    max_rank: int = 16
    gain_base: float = PlanSettings().gain_base
    means: bool = False
    probe_steps: int = 1
    history: bool = True
    num_rounds: int = 8
    local_steps: int = 20
    batch_size: int = 16
    evaluation_examples: int = 500
    max_length: int = 192
    autocast: bool = True

    @property
    def scaling(self) -> Scaling:
        """What adapters' products are multiplied by."""
        return Scaling(alpha=self.lora_alpha, rule=self.scale_rule)
