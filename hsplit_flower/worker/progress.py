"""A step of a session while it is under way."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class WaitingGraph:
    """A forward pass that waits for its gradient, where the labels stay on the client."""

    hidden: Tensor
    last: Tensor
    is_probe: bool
    scores: dict[str, float]


@dataclass(kw_only=True)
class Progress:
    """How far a step has come: how many of its micro-batches were carried on, how many are done.

    ``waiting`` are those in between, by their number.
    """

    num_micro_batches: int
    total_tokens: int
    train: bool
    num_started: int = 0
    num_done: int = 0
    waiting: dict[int, WaitingGraph] = field(default_factory=dict)
