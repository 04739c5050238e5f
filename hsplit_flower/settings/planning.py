"""What the planner may decide, and within which limits."""

from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self

from ..types import Labels, Start
from .fields import setting
from .group import Settings
from .training import Recipe
from .worker import Worker


class Planning(Settings):
    """Limits and preferences of adaptive rank and split configuration (ARMSC)."""

    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] | None = setting(
        None,
        "Which weights may be adapted, by the ends of their names as PEFT takes them (q_proj, or "
        "self_attn.q_proj); all-linear, or none named, is every linear layer of the blocks.",
        wanted="one or more names, or none for all",
        strict=False,
    )
    min_cut: int = setting(
        1, "Fewest blocks on a client; at least one, so that raw embeddings never leave it.", ge=1
    )
    max_cut: int | None = setting(
        None,
        "Most blocks on a client; none said leaves at least one to the worker, so that no client "
        "holds the whole model.",
        ge=1,
    )
    makespan_slack: float = setting(
        0.05,
        "Makespans that differ by no more than this share count as equal: predictions are no "
        "finer.",
        ge=0,
        lt=1,
    )
    max_rank: int = setting(16, "Highest rank that a weight's adapter may have.", ge=1)
    rank_unit: int = setting(
        1, "Ranks are 0 and the multiples of this number, up to the highest.", ge=1
    )
    gain_base: float = setting(
        0.9, "A rank of r is worth 1 - gain-base^r of its weight's importance.", gt=0, lt=1
    )
    worker_session_rank: int = setting(
        4,
        "What a client's adapters may take on the worker, as the rank that it would give to every "
        "weight there; more important weights get more. 0 shares the worker's memory among all.",
        ge=0,
    )
    checkpointing: bool = setting(
        True,
        "Whether clients may run their blocks once more in the backward pass instead of keeping "
        "what is inside them, where that makes room for a cut that shortens the step.",
    )
    drift_threshold: float = setting(
        0.1,
        "Plan anew when importance has moved by more than this share since the plan was made.",
        ge=0,
        le=1,
    )
    cooldown_rounds: int = setting(
        1,
        "Rounds that a plan stands at least; with 0 and 1 each round may have its own.",
        unit="rounds",
        ge=0,
    )
    margin: float = setting(
        0.002,
        "A new plan must promise this much more, as a share of the standing one's objective.",
        ge=0,
        lt=1,
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        problems = []
        if self.rank_unit > self.max_rank:
            problems.append(
                f"rank_unit must be between 1 and max_rank, got {self.rank_unit} and "
                f"{self.max_rank}"
            )
        if self.max_cut is not None and self.max_cut < self.min_cut:
            problems.append(f"max_cut must be min_cut ({self.min_cut}) or more, got {self.max_cut}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def allowed_ranks(self) -> tuple[int, ...]:
        """Ranks that a weight may get, ascending, from 0."""
        return tuple(range(0, self.max_rank + 1, self.rank_unit))

    def deepest_cut(self, num_blocks: int) -> int:
        """The most blocks that a client of such a model may hold."""
        if self.max_cut is not None:
            return min(self.max_cut, num_blocks)
        return max(self.min_cut, num_blocks - 1)


class PlanSettings(Planning):
    """What a plan is made from: the limits, and what the run adds to them."""

    labels: Labels = setting(
        Recipe.default_of("labels"),
        "Who computes the loss; a client that keeps its labels holds norm and head too.",
        strict=False,
    )
    start: Start = setting(
        Recipe.default_of("start"),
        "What adapters start a round from: decides what of the global update is kept frozen.",
        strict=False,
    )
    worker_session_bytes: float | None = setting(
        None,
        "What one client's adapters on the worker may take; none said shares its free memory.",
        unit="bytes",
        ge=0,
        wanted="zero or more",
    )
    worker_checkpointing: bool = setting(
        Worker.default_of("checkpointing"),
        "Whether the worker runs its blocks once more in the backward pass, to keep less.",
    )
    one_cut: bool = setting(False, "Whether all clients have the same cut.")
    one_rank: bool = setting(False, "Whether all weights have the same rank on all clients.")
    round_share: float = setting(
        1.0,
        "What share of the planned clients takes part in a round: they alone load the worker.",
        gt=0,
        le=1,
        wanted="above 0 and at most 1",
    )
