"""What happened in a round, as plain values: for the log, for files, for whoever asks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..aggregation import Proportion
from ..metrics import TokenLoss
from ..simulation.clock import RoundClock
from ..sizes import size_text
from ..types import ClientPlan


@dataclass(frozen=True, kw_only=True)
class ClientReport:
    """One client's part of a round; ``dropped`` says why it does not count, if it does not.

    ``num_batch_tokens`` are those of its steps' batches, padding included, as it says itself.
    ``peak_bytes`` is what was measured, 0 where nothing was; what was predicted is in the plan.
    Of ``num_examples``, which it claims, ``uncounted_examples`` are not believed. ``is_selected``
    is false where it finished and Krum uses others.
    """

    plan: ClientPlan
    num_examples: int = 0
    uncounted_examples: int = 0
    loss: TokenLoss = field(default_factory=TokenLoss)
    num_steps: int = 0
    num_batch_tokens: int = 0
    seconds: float = 0.0
    budget_bytes: float = 0.0
    peak_bytes: float = 0.0
    proportion: Proportion = field(default_factory=Proportion)
    is_selected: bool = True
    dropped: str | None = None

    @property
    def counted_examples(self) -> int:
        """For how many it counts in means."""
        return self.num_examples - self.uncounted_examples

    @property
    def is_suspicious(self) -> bool:
        """Whether it is used less than it asks for."""
        return bool(self.proportion.kept) or self.uncounted_examples > 0

    def line(self) -> str:
        """One line for the log."""
        ranks = [rank for rank in self.plan.ranks.values() if rank]
        shape = f"cut {self.plan.cut}, " + (
            f"ranks {min(ranks)}-{max(ranks)} (sum {sum(ranks)})" if ranks else "no ranks"
        )
        if self.dropped:
            return f"{shape}: left out, {self.dropped}"
        memory = f", {size_text(self.peak_bytes)}" if self.peak_bytes else ""
        if memory and self.budget_bytes:
            memory += f" of {size_text(self.budget_bytes)}"
        return (
            f"{shape}: loss {self.loss.mean:.4f}, {self.num_steps} steps "
            f"in {self.seconds:.1f} s{memory}{self._trust()}"
        )

    def _trust(self) -> str:
        """What of it is not used, in words."""
        told = "" if self.is_selected else "; not selected"
        if self.proportion.kept:
            told += (
                f"; SHORTENED in {len(self.proportion.kept)} weights, to "
                f"{self.proportion.least_kept:.2g} of what they are and more: its change of "
                f"{self.proportion.where} is {self.proportion.multiple:.3g} times the median"
            )
        if self.uncounted_examples:
            told += (
                f"; counts as {self.counted_examples} of the {self.num_examples} examples it claims"
            )
        return told


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """One round of training.

    ``away`` are clients that a simulated fleet was without; ``moved`` those that began anew on
    another worker when theirs died; ``seconds`` were measured, those of
    ``simulated`` are what the clients that finished would have taken on their own devices.
    """

    server_round: int
    clients: Mapping[int, ClientReport]
    replanned: bool
    planning_reason: str
    drift: float
    seconds: float
    completed: bool
    largest_rank: int = 0
    held_back_share: float = 0.0
    dropped_share: float = 0.0
    away: tuple[int, ...] = ()
    moved: tuple[int, ...] = ()
    simulated: RoundClock = field(default_factory=RoundClock)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a line of JSON; ranks are in the plan and left out here."""
        values = asdict(self)
        values["simulated-seconds"] = values.pop("simulated")["seconds"]
        values["clients"] = {
            str(node): {
                "cut": client.plan.cut,
                "sum-of-ranks": sum(client.plan.ranks.values()),
                "num-examples": client.num_examples,
                "counted-examples": client.counted_examples,
                "longest-change": client.proportion.where,
                "times-the-median": client.proportion.multiple,
                "num-shortened": len(client.proportion.kept),
                "least-kept": 0.0 if client.proportion.is_refused else client.proportion.least_kept,
                "selected": client.is_selected,
                "loss": client.loss.mean if client.loss.num_tokens else None,
                "num-steps": client.num_steps,
                "num-batch-tokens": client.num_batch_tokens,
                "seconds": client.seconds,
                "predicted-bytes": client.plan.memory.total_bytes,
                "peak-bytes": client.peak_bytes,
                "budget-bytes": client.budget_bytes,
                "dropped": client.dropped,
                **_clock_values(self.simulated, node),
            }
            for node, client in self.clients.items()
        }
        return {name.replace("_", "-"): value for name, value in values.items()}


def _clock_values(clock: RoundClock, node: int) -> dict[str, float]:
    if node not in clock.clients:
        return {}
    seconds = asdict(clock.clients[node])
    return {f"simulated-{name.replace('_', '-')}": value for name, value in seconds.items()}


def train_metrics(report: RoundReport) -> dict[str, Any]:
    """What Flower shows of a round that counts."""
    finished = [client for client in report.clients.values() if client.dropped is None]
    losses = sum((client.loss for client in finished), TokenLoss())
    return {
        "train-loss": losses.mean,
        "num-clients": len(finished),
        "seconds": report.seconds,
        "simulated-seconds": report.simulated.seconds,
    }
