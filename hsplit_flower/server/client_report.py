"""What became of one client in a round, as plain values, and its lines for log and files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..aggregation import Proportion
from ..metrics import TokenLoss
from ..reports.client_records import EvaluatedClient, TrainedClient
from ..simulation.clock import ClientClock
from ..transport.traffic import Traffic
from ..types import ClientPlan

TOLD = (
    "setup_seconds",
    "computing_seconds",
    "worker_seconds",
    "link_seconds",
    "others_seconds",
    "num_steps",
    "num_tokens",
    "num_batch_tokens",
)
"""Of a record, what is known from the client's own reply alone."""


@dataclass(frozen=True, kw_only=True)
class ClientReport:
    """One client's part of a round; ``dropped`` says why it does not count, if it does not.

    Attributes
    ----------
    plan, name
        What it was to do, and what it is called.
    num_examples, uncounted_examples
        Of those that it claims some may not be believed.
    loss, first_loss, last_loss
        Over all its steps, and over the first and the last quarter of them, one step at least.
    num_steps, num_batch_tokens
        Its steps, and all tokens of their batches, padding included, as it says itself.
    setup_seconds, seconds, others_seconds
        Before its first step, from that to its last, and what remains until the round's last reply.
    traffic
        With its session on a worker, and how long it waited for that, as it says itself; as the
        worker says where it does not count; None where nobody knows.
    worker
        Address of that worker; empty where there is none.
    flower_up_bytes, flower_down_bytes
        Of its reply and of its message, through Flower; None for a reply that has not come.
    budget_bytes, peak_bytes
        What it might take, and what was measured, 0 where nothing was; what was predicted is in the
        plan.
    proportion, is_selected
        What was made of it when clients were compared; not selected is who finished where Krum uses
        others.
    """

    plan: ClientPlan
    name: str = ""
    num_examples: int = 0
    uncounted_examples: int = 0
    loss: TokenLoss = field(default_factory=TokenLoss)
    first_loss: TokenLoss = field(default_factory=TokenLoss)
    last_loss: TokenLoss = field(default_factory=TokenLoss)
    num_steps: int = 0
    num_batch_tokens: int = 0
    setup_seconds: float = 0.0
    seconds: float = 0.0
    others_seconds: float = 0.0
    traffic: Traffic | None = None
    worker: str = ""
    flower_up_bytes: int | None = None
    flower_down_bytes: int = 0
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
    def computing_seconds(self) -> float:
        """What of its steps it did not wait."""
        return max(0.0, self.seconds - self._waited.worker_seconds - self._waited.link_seconds)

    @property
    def _waited(self) -> Traffic:
        """For its session; not at all where nothing is known of that."""
        return self.traffic or Traffic()

    def trained(self, block_ranks: Sequence[int], clock: ClientClock | None) -> TrainedClient:
        """What is written of it after a round of training.

        Parameters
        ----------
        block_ranks
            Sum of its ranks in each block of the model.
        clock
            Its seconds on a simulated device, where there is one.
        """
        ranks = [rank for rank in self.plan.ranks.values() if rank]
        return TrainedClient(
            **self._measured(),
            binds=self.plan.binds,
            block_ranks=tuple(block_ranks),
            sum_of_ranks=sum(ranks),
            least_rank=min(ranks, default=0),
            largest_rank=max(ranks, default=0),
            predicted_bytes=self.plan.memory.total_bytes,
            seconds=self.seconds if self.dropped is None else None,
            loss_before=_mean(self.first_loss),
            loss_after=_mean(self.last_loss),
            num_examples=self.num_examples,
            counted_examples=self.counted_examples,
            longest_change=self.proportion.where,
            times_the_median=self.proportion.multiple,
            num_shortened=len(self.proportion.kept),
            least_kept=0.0 if self.proportion.is_refused else self.proportion.least_kept,
            selected=self.is_selected,
            simulated_compute_seconds=clock.compute_seconds if clock else None,
            simulated_link_seconds=clock.link_seconds if clock else None,
            simulated_worker_seconds=clock.worker_seconds if clock else None,
            simulated_waiting_seconds=clock.waiting_seconds if clock else None,
        )

    def evaluated(self) -> EvaluatedClient:
        """What is written of it after an evaluation."""
        perplexity = self.loss.perplexity if self.loss.num_tokens else None
        return EvaluatedClient(**self._measured(), perplexity=perplexity)

    def _measured(self) -> dict[str, Any]:
        if self.dropped is None:
            return self._known()
        # What it says itself is not there.
        return {**self._known(), **dict.fromkeys(TOLD)}

    def _known(self) -> dict[str, Any]:
        return {
            "cut": self.plan.cut,
            "worker": self.worker,
            "worker_up_bytes": self.traffic.up_bytes if self.traffic else None,
            "worker_down_bytes": self.traffic.down_bytes if self.traffic else None,
            "flower_up_bytes": self.flower_up_bytes,
            "flower_down_bytes": self.flower_down_bytes,
            "setup_seconds": self.setup_seconds,
            "computing_seconds": self.computing_seconds,
            "worker_seconds": self._waited.worker_seconds,
            "link_seconds": self._waited.link_seconds,
            "others_seconds": self.others_seconds,
            "num_steps": self.num_steps,
            "num_tokens": self.loss.num_tokens,
            "num_batch_tokens": self.num_batch_tokens,
            "peak_bytes": self.peak_bytes,
            "budget_bytes": self.budget_bytes,
            "loss": _mean(self.loss),
            "dropped": self.dropped,
        }


def _mean(loss: TokenLoss) -> float | None:
    return loss.mean if loss.num_tokens else None
