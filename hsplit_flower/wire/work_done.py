"""How far sessions are, what has gone to and from them, and its form on the wire."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .proto.split_pb2 import StepCounts


@dataclass(frozen=True, kw_only=True)
class WorkDone:
    """What the sessions of a worker, or of several, have done in a round so far.

    ``num_steps`` are by client; ``num_tokens`` those of all their batches, padding included;
    ``up_bytes`` and ``down_bytes`` what has come from each client and was sent to it.
    """

    num_steps: Mapping[int, int] = field(default_factory=dict)
    num_tokens: int = 0
    up_bytes: Mapping[int, int] = field(default_factory=dict)
    down_bytes: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of_all(cls, told: Iterable["WorkDone"]) -> "WorkDone":
        """What several workers have done together; each client is with one of them."""
        together = cls()
        for one in told:
            together = cls(
                num_steps={**together.num_steps, **one.num_steps},
                num_tokens=together.num_tokens + one.num_tokens,
                up_bytes={**together.up_bytes, **one.up_bytes},
                down_bytes={**together.down_bytes, **one.down_bytes},
            )
        return together


def work_to_wire(done: WorkDone) -> StepCounts:
    """As a worker tells it."""
    return StepCounts(
        steps=done.num_steps,
        num_tokens=done.num_tokens,
        up_bytes=done.up_bytes,
        down_bytes=done.down_bytes,
    )


def work_from_wire(told: StepCounts) -> WorkDone:
    """As a worker has told it."""
    return WorkDone(
        num_steps=dict(told.steps),
        num_tokens=told.num_tokens,
        up_bytes=dict(told.up_bytes),
        down_bytes=dict(told.down_bytes),
    )
