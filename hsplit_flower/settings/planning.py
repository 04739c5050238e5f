"""What the planner may decide, and within which limits."""

import math
from dataclasses import dataclass

from ..errors import ConfigError
from ..types import Labels, Start


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """Limits and preferences of a plan.

    Attributes
    ----------
    labels
        Who computes the loss; a client that keeps its labels holds norm and head too.
    start
        What adapters start a round from; decides which part of the global update is kept frozen.
    targets
        Which weights are adapted, by the last part of their names (``"q_proj"``); None adapts all
        linear layers of the blocks.
    min_cut
        Fewest blocks on a client; at least one, so that raw embeddings never leave it.
    max_cut
        Most blocks on a client; None leaves at least one to the worker, so that no client holds the
        whole model.
    makespan_slack
        Makespans that differ by no more than this share count as equal: predictions are no finer.
    rank_unit, max_rank
        Allowed ranks are 0 and the multiples of ``rank_unit`` up to ``max_rank``.
    gain_base
        A rank of ``r`` is worth ``g(r) = 1 - gain_base^r`` of its weight's importance.
    worker_session_bytes
        What one client's adapters on the worker may take; None shares the worker's free memory
        equally among the sessions.
    round_share
        What share of the planned clients takes part in a round: they alone load the worker.
    checkpointing
        Whether clients may run their blocks once more in the backward pass instead of keeping what
        is inside them. It is done where the smallest cut does not fit otherwise, or where the
        deeper cut that it makes room for shortens the step.
    """

    labels: Labels = Labels.SERVER
    start: Start = Start.CONTINUE
    targets: tuple[str, ...] | None = None
    min_cut: int = 1
    max_cut: int | None = None
    makespan_slack: float = 0.05
    rank_unit: int = 1
    max_rank: int = 16
    gain_base: float = 0.9
    worker_session_bytes: float | None = None
    round_share: float = 1.0
    checkpointing: bool = True

    def __post_init__(self) -> None:
        wrong = []
        if self.min_cut < 1:
            wrong.append(f"min_cut must be 1 or more, got {self.min_cut}")
        if self.max_cut is not None and self.max_cut < self.min_cut:
            wrong.append(f"max_cut must be min_cut ({self.min_cut}) or more, got {self.max_cut}")
        if not 0.0 <= self.makespan_slack < 1.0:
            wrong.append(f"makespan_slack must be in [0, 1), got {self.makespan_slack}")
        if not 0.0 < self.round_share <= 1.0:
            wrong.append(f"round_share must be above 0 and at most 1, got {self.round_share}")
        if not 1 <= self.rank_unit <= self.max_rank:
            wrong.append(
                "rank_unit must be between 1 and max_rank, "
                f"got {self.rank_unit} and {self.max_rank}"
            )
        if not 0.0 < self.gain_base < 1.0:
            wrong.append(f"gain_base must be between 0 and 1, got {self.gain_base}")
        if self.targets is not None and not self.targets:
            wrong.append("targets must name at least one weight, or be left out for all")
        session_bytes = self.worker_session_bytes
        if session_bytes is not None and not 0.0 <= session_bytes < math.inf:
            wrong.append(f"worker_session_bytes must be zero or more, got {session_bytes}")
        if wrong:
            raise ConfigError("; ".join(wrong))

    @property
    def allowed_ranks(self) -> tuple[int, ...]:
        """Ranks that a weight may get, ascending, from 0."""
        return tuple(range(0, self.max_rank + 1, self.rank_unit))

    def deepest_cut(self, num_blocks: int) -> int:
        """The most blocks that a client of such a model may hold."""
        if self.max_cut is not None:
            return min(self.max_cut, num_blocks)
        return max(self.min_cut, num_blocks - 1)
