"""HSplitLoRA as these tests set it, for the tiny model and three unequal clients."""

from typing import Any

from hsplit_flower.settings import PlanSettings, Training
from hsplit_flower.strategies import HSplitLoRA

# Three devices of which the first cannot afford every rank, and the last cuts higher.
FLEET = "0.35,0.6,1"
MAX_RANK = 6
# Enough where it does not matter how many weights there are.
FEW = PlanSettings(max_rank=MAX_RANK, targets=("q_proj", "up_proj"))


def training(**settings: Any) -> Training:
    """Large steps, for batches as the clients have them."""
    return Training(batch_size=3, sequence_length=9, learning_rate=5e-3, **settings)


def strategy_of(model: str, **settings: Any) -> HSplitLoRA:
    """The strategy; what is not said is as above, and nobody evaluates."""
    settings.setdefault("training", training())
    settings.setdefault("planning", FEW)
    settings.setdefault("fleet", FLEET)
    settings.setdefault("fraction_evaluate", 0.0)
    return HSplitLoRA(model, settings.pop("training"), **settings)
