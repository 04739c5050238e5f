"""How clients train: settings that every client of a run shares."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from ..errors import ConfigError
from ..types import Labels, ScaleRule, Start, WireType

Settings = TypeVar("Settings")

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True)
class Training:
    """Model and optimizer settings of a run.

    Attributes
    ----------
    batch_size, sequence_length
        The largest batch that clients send and its longest sequence: plans are made for them, and
        the worker refuses a request with more tokens than their product.
    learning_rate, weight_decay
        AdamW's, on both sides of the cut.
    lora_alpha, scale_rule
        What an adapter's product is multiplied by in training: ``lora_alpha`` divided by its rank,
        by the root of its rank, or by nothing.
    labels, start
        Who computes the loss, and what a round starts from.
    seed
        Of fresh adapter factors, and of what chance decides in a simulated fleet.
    revision, dtype, attention
        How the base is loaded; empty leaves the choice to transformers.
    wire_type
        Type of hidden states on the wire; None is that of the base model's weights.
    wire_gradient_type
        Type of their gradients; None is the same as that of hidden states.
    micro_batch_size
        Examples that a client sends at a time, while the gradients of a step add up; 0 for the
        whole batch.
    in_flight
        How many of them a client may have on the wire, unanswered.
    cached_halves
        How many loaded halves each client process keeps for later messages; 0 for none, and one at
        most where budgets are enforced.
    max_message_bytes, step_timeout_seconds
        Limits of one message, and of the wait for its answer.
    """

    batch_size: int
    sequence_length: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    lora_alpha: float = 32.0
    scale_rule: ScaleRule = ScaleRule.LORA
    labels: Labels = Labels.SERVER
    start: Start = Start.CONTINUE
    seed: int = 0
    revision: str = ""
    dtype: str = "float32"
    attention: str = ""
    wire_type: WireType | None = None
    wire_gradient_type: WireType | None = None
    micro_batch_size: int = 0
    in_flight: int = 4
    cached_halves: int = 1
    max_message_bytes: int = 64 * 2**20
    step_timeout_seconds: float = 120.0

    def __post_init__(self) -> None:
        wrong = [
            f"{name} must be a positive number, got {getattr(self, name)}"
            for name in (
                "batch_size",
                "sequence_length",
                "learning_rate",
                "lora_alpha",
                "in_flight",
                "max_message_bytes",
                "step_timeout_seconds",
            )
            if not 0 < getattr(self, name) < math.inf
        ]
        wrong += [
            f"{name} must be zero or more, got {getattr(self, name)}"
            for name in ("weight_decay", "micro_batch_size", "cached_halves")
            if not 0 <= getattr(self, name) < math.inf
        ]
        if self.dtype not in DTYPES:
            wrong.append(f"dtype must be one of {list(DTYPES)}, got {self.dtype!r}")
        if wrong:
            raise ConfigError("; ".join(wrong))

    @property
    def hidden_type(self) -> WireType:
        """What hidden states are on the wire."""
        return self.wire_type or WireType(self.dtype)


def following(settings: Settings, **values: Any) -> Settings:
    """Other settings (a dataclass) with the run's own values, which they do not choose themselves.

    Raises
    ------
    ConfigError
        If one of them was set, and to something else.
    """
    left_alone = {field.name: field.default for field in fields(settings)}  # type: ignore[arg-type]
    contradictions = [
        f"{name} is {given!r} in the {type(settings).__name__} and {value!r} in the run"
        for name, value in values.items()
        if (given := getattr(settings, name)) not in (value, left_alone[name])
    ]
    if contradictions:
        raise ConfigError(f"{'; '.join(contradictions)}: leave it out there, or say the same")
    return replace(settings, **values)  # type: ignore[type-var]
