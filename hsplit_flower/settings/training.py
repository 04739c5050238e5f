"""How adapters are trained: the recipe that both sides of a cut follow, and the batches."""

import math

from ..types import Labels, ScaleRule, Scaling, Start
from .fields import setting
from .learning_rate import LearningRate, Schedule
from .presets import PRESETS


class Recipe(LearningRate):
    """What a client and its session on the worker must do alike."""

    weight_decay: float = setting(0.0, "AdamW's.", ge=0)
    adam_beta1: float = setting(
        0.9, "How much of the mean of gradients AdamW keeps at each step.", ge=0, lt=1
    )
    adam_beta2: float = setting(
        0.999, "How much of the mean of squared gradients AdamW keeps at each step.", ge=0, lt=1
    )
    adam_epsilon: float = setting(1e-8, "What AdamW adds to the root that it divides by.", gt=0)
    gradient_accumulation_steps: int = setting(
        1,
        "Batches whose gradients add up to one optimizer step, to that of the mean loss over the "
        "tokens of all of them.",
        ge=1,
    )
    lora_dropout: float = setting(
        0.0,
        "Which share of the numbers of its layer's input an adapter does not see, other ones in "
        "each step of training.",
        ge=0,
        lt=1,
    )
    label_smoothing: float = setting(
        0.0,
        "How much of a target's probability is spread evenly over the vocabulary, in training; "
        "losses of training then are of that.",
        ge=0,
        lt=1,
    )
    max_gradient_norm: float = setting(
        0.0,
        "Longest gradient of a step, of the factors on both sides of the cut together; a longer "
        "one is shortened to it. 0 for no limit.",
        ge=0,
    )
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
            f"AdamW {self._rate_in_words}, alpha {self.lora_alpha:g} ({self.scale_rule.value}), "
            f"{self.start.value}, labels on the {self.labels.value}"
        )

    @property
    def _rate_in_words(self) -> str:
        rate = f"{self.learning_rate:g}"
        if self.schedule is not Schedule.CONSTANT:
            rate = f"{rate} to {self.final_learning_rate:g} ({self.schedule.value})"
        return rate

    @property
    def scaling(self) -> Scaling:
        """What adapters' products are multiplied by."""
        return Scaling(alpha=self.lora_alpha, rule=self.scale_rule)


class Training(Recipe):
    """How every client of a run trains."""

    preset: str = setting(
        "",
        f"A published recipe, one of {', '.join(PRESETS)}: what it says of training, model and "
        "planning holds where nothing else is said.",
        wanted=f"one of {', '.join(map(repr, PRESETS))}",
        pattern=f"^({'|'.join(['', *PRESETS])})$",
    )
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
    personalise_steps: int = setting(
        0,
        "Steps that each client takes after the last round on an adapter of its own, which it "
        "keeps: of the weights below its cut, on top of the global adapter. 0 for none.",
        ge=0,
    )
    seed: int = setting(
        0,
        "Of fresh adapters, of what chance decides in a simulated fleet, and of what an app draws, "
        "such as partitions and batches.",
        ge=0,
    )

    def steps_of(self, num_examples: int, *, epochs: float) -> int:
        """The optimizer steps of so many passes over its examples, of which the last may end early.

        One at least: a client with few examples takes them more than once.
        """
        a_step = self.batch_size * self.gradient_accumulation_steps
        return max(1, math.ceil(epochs * num_examples / a_step))
