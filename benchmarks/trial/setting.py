"""One arm of a comparison: what is trained, by whom, and by which rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hsplit_flower.errors import ConfigError
from hsplit_flower.methods import HSPLIT_LORA, Method
from hsplit_flower.settings import Aggregation, Planning, Recipe, Training

FOLLOWED = {"learning_rate", "weight_decay", "lora_alpha", "scale_rule", "labels", "start"}
"""What of a recipe a trial does; the rest must be as it is where nothing is said."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one run is made of.

    The groups are those of a run; what they say of cuts, batches' pieces and memory is not looked
    at, as nothing is split. Where clients share an adapter above the cut, it begins at ``cut``.

    Attributes
    ----------
    budgets
        Adapter bytes of each client, as the rank that they would give to every weight.
    method
        Whose rules for ranks, for the start of a round and for aggregation are followed.
    absent
        Clients that have examples and take no part.
    floor
        Whether importance leaves no weight below rank 1.
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
    budgets: tuple[float, ...]
    training: Training
    method: Method = HSPLIT_LORA
    planning: Planning = field(default_factory=Planning)
    aggregation: Aggregation = field(default_factory=Aggregation)
    absent: tuple[int, ...] = ()
    cut: int = 1
    floor: bool = False
    means: bool = False
    probe_steps: int = 1
    history: bool = True
    num_rounds: int = 8
    local_steps: int = 20
    evaluation_examples: int = 500
    autocast: bool = True

    def __post_init__(self) -> None:
        ignored = [
            field.key
            for field in Recipe.known()
            if field.name not in FOLLOWED and getattr(self.training, field.name) != field.default
        ]
        if ignored:
            raise ConfigError(
                f"a trial does not follow training's {', '.join(ignored)}: leave them out, or try "
                "them in a run or with hsplit centralised"
            )

    def changed(self, changes: Mapping[str, Any]) -> "Setting":
        """The same with other values; a group's field is named as ``training.seed``."""
        own: dict[str, Any] = {}
        grouped: dict[str, dict[str, Any]] = {}
        for key, value in changes.items():
            group, _, name = key.rpartition(".")
            (grouped.setdefault(group, {}) if group else own)[name] = value
        groups = {name: getattr(self, name).replace(**values) for name, values in grouped.items()}
        return replace(self, **own, **groups)
