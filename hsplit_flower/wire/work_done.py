"""How far sessions are, and its form on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .proto.split_pb2 import StepCounts


@dataclass(frozen=True, kw_only=True)
class WorkDone:
    """What the sessions of a worker, or of several, have done in a round so far.

    ``num_steps`` are by client; ``num_tokens`` those of all their batches, padding included.
    """

    num_steps: Mapping[int, int] = field(default_factory=dict)
    num_tokens: int = 0


def work_to_wire(done: WorkDone) -> StepCounts:
    """As a worker tells it."""
    return StepCounts(steps=done.num_steps, num_tokens=done.num_tokens)


def work_from_wire(told: StepCounts) -> WorkDone:
    """As a worker has told it."""
    return WorkDone(num_steps=dict(told.steps), num_tokens=told.num_tokens)
