"""What was predicted for a client's memory beside what its run took."""

from dataclasses import dataclass

from benchmarks.tools.client_run import ClientRun, live_peak_bytes
from hsplit_flower.costs import ModelCosts, client_memory
from hsplit_flower.settings import PlanSettings


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A run, what was predicted for it, what it took, and what it was allowed."""

    name: str
    predicted_bytes: float
    measured_bytes: float
    budget_bytes: float | None = None

    @property
    def error(self) -> float:
        """By what share the prediction is off; above zero where it is too high."""
        return self.predicted_bytes / self.measured_bytes - 1.0

    def as_json(self) -> dict[str, float | str | None]:
        return {
            "name": self.name,
            "predicted_bytes": self.predicted_bytes,
            "measured_bytes": self.measured_bytes,
            "budget_bytes": self.budget_bytes,
            "error": self.error,
        }


def compared(name: str, run: ClientRun, costs: ModelCosts) -> Comparison:
    """A run, made here and now, with what the cost model says of it."""
    return Comparison(
        name=name,
        predicted_bytes=predicted_bytes(run, costs),
        measured_bytes=live_peak_bytes(run),
    )


def predicted_bytes(run: ClientRun, costs: ModelCosts) -> float:
    """What the cost model says of a run."""
    settings = PlanSettings(labels=run.labels, start=run.start)
    parts = client_memory(
        costs,
        cut=run.cut,
        ranks=run.ranks,
        settings=settings,
        update_ranks=run.update_ranks,
        checkpointing=run.checkpointing,
    )
    return parts.total_bytes
