"""How adapters are trained: the recipe that both sides of a cut follow, and the batches."""

from ..types import Labels, ScaleRule, Scaling, Start
from .fields import setting
from .group import Settings


class Recipe(Settings):
    """What a client and its session on the worker must do alike."""

    learning_rate: float = setting(
        1e-3,
        "AdamW's. Larger bases want a smaller one (GPT-2 medium about 2e-4), tiny ones a larger.",
        gt=0,
    )
    weight_decay: float = setting(0.0, "AdamW's.", ge=0)
    lora_alpha: float = setting(
        32.0, "What the scale of an adapter's product is made from, by scale-rule.", gt=0
    )
    scale_rule: ScaleRule = setting(
        ScaleRule.LORA,
        "What an adapter's product is multiplied by: lora-alpha divided by its rank (lora), by the "
        "root of its rank (rslora), or by nothing (constant).",
        strict=False,
    )
    labels: Labels = setting(
        Labels.SERVER, "Who computes the loss, and so sees the labels.", strict=False
    )
    start: Start = setting(
        Start.CONTINUE,
        "What a round starts from: continue trains the leading directions of the global adapter, "
        "restart fresh ones on top of it; factors goes on with one pair of factors, in methods "
        "that average these.",
        strict=False,
    )

    def __str__(self) -> str:
        """In a line, for the log."""
        return (
            f"AdamW {self.learning_rate:g}, alpha {self.lora_alpha:g} ({self.scale_rule.value}), "
            f"{self.start.value}, labels on the {self.labels.value}"
        )

    @property
    def scaling(self) -> Scaling:
        """What adapters' products are multiplied by."""
        return Scaling(alpha=self.lora_alpha, rule=self.scale_rule)


class Training(Recipe):
    """How every client of a run trains."""

    batch_size: int = setting(
        16, "Examples in a step; plans are made for it, and the worker refuses more.", ge=1
    )
    sequence_length: int = setting(
        192,
        "Longest example, prompt and end included; plans are made for it, and the worker refuses "
        "more than batch-size times it at once.",
        unit="tokens",
        ge=2,
    )
    micro_batch_size: int = setting(
        0,
        "Examples that a client sends at a time, while the gradients of a step add up; 0 sends the "
        "whole batch.",
        ge=0,
    )
    seed: int = setting(
        0,
        "Of fresh adapters, of what chance decides in a simulated fleet, and of what an app draws, "
        "such as partitions and batches.",
        ge=0,
    )
