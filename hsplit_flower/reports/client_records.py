"""What is written of one client in one round: its part, what it took, and why it does not count."""

from typing import Literal

from pydantic import Field

from ..types import Binding
from .record import Record


class Measured(Record):
    """What a client's round took, as it was measured; seconds add up to the round's.

    Of one that was dropped only bytes are known, those through Flower as the server counts them,
    those to and from its worker as that does; its seconds, steps and tokens are null.
    """

    worker: str = Field(
        default="", description="Address of the worker that served it; empty for none."
    )
    worker_up_bytes: int | None = Field(
        default=0,
        description="Sent to the worker, with what gRPC puts before each message: as the client "
        "says, or the worker where the client was dropped; null if neither can say, as after the "
        "worker's end.",
    )
    worker_down_bytes: int | None = Field(
        default=0, description="Received from the worker, likewise."
    )
    flower_up_bytes: int | None = Field(
        default=0,
        description="Of its reply to the server, through Flower; null if none has come in time.",
    )
    flower_down_bytes: int = Field(default=0, description="Of the server's message to it.")
    setup_seconds: float | None = Field(
        default=0.0,
        description="Before its first step: lease of a card, half of the model, adapter.",
    )
    computing_seconds: float | None = Field(default=0.0, description="In its own half.")
    worker_seconds: float | None = Field(
        default=0.0,
        description="It waited while the worker computed for it, or had it wait its turn.",
    )
    link_seconds: float | None = Field(
        default=0.0, description="It waited while bytes were under way."
    )
    others_seconds: float | None = Field(
        default=0.0,
        description="What remains until the round's last reply: for others, for a process of its "
        "own in a simulation, and for Flower's messages.",
    )
    num_steps: int | None = Field(default=0, description="Optimizer steps.")
    num_tokens: int | None = Field(default=0, description="Labelled tokens, of which the loss is.")
    num_batch_tokens: int | None = Field(
        default=0, description="All tokens of its batches, padding included."
    )
    peak_bytes: float = Field(
        default=0.0, description="Memory that its round took; 0 if not measured."
    )
    budget_bytes: float = Field(default=0.0, description="Memory that it might take.")


class TrainedClient(Measured):
    """A client that had a part in a round of training."""

    cut: int = Field(description="Blocks that the client has.")
    binds: Binding | None = Field(
        default=None, description="What its cut is limited by, as in the plan."
    )
    block_ranks: tuple[int, ...] = Field(
        default=(), description="Sum of the ranks in each block, on both sides of the cut."
    )
    sum_of_ranks: int = Field(default=0, description="Over all weights, on both sides of the cut.")
    least_rank: int = Field(default=0, description="Of the weights that it adapts.")
    largest_rank: int = Field(default=0, description="Of the weights that it adapts.")
    predicted_bytes: float = Field(default=0.0, description="Memory that its plan says.")
    seconds: float | None = Field(
        default=0.0, description="From its first step to its last, as it says; null if dropped."
    )
    loss: float | None = Field(
        default=None, description="Mean of a labelled token over all its steps."
    )
    loss_before: float | None = Field(
        default=None, description="The same over the first quarter of its steps, one at least."
    )
    loss_after: float | None = Field(
        default=None, description="The same over the last quarter of its steps, one at least."
    )
    num_examples: int = Field(default=0, description="That it claims to train on.")
    counted_examples: int = Field(default=0, description="With which it counts in means.")
    longest_change: str = Field(default="", description="Of which weight its change is longest.")
    times_the_median: float = Field(
        default=0.0, description="How long that is, in the round's medians."
    )
    num_shortened: int = Field(default=0, description="Weights whose change was shortened.")
    least_kept: float = Field(
        default=1.0, description="What share of the one that lost most was kept."
    )
    selected: bool = Field(
        default=True, description="Whether the rule that selects clients chose it."
    )
    dropped: str | None = Field(default=None, description="Why it does not count, if it does not.")
    simulated_compute_seconds: float | None = Field(
        default=None, description="In its half, on the device that was simulated for it."
    )
    simulated_link_seconds: float | None = Field(default=None, description="On its link, likewise.")
    simulated_worker_seconds: float | None = Field(default=None, description="Served, likewise.")
    simulated_waiting_seconds: float | None = Field(
        default=None, description="In the worker's queue and for the last one, likewise."
    )

    @property
    def counts(self) -> bool:
        """Whether it finished and was not refused."""
        return self.dropped is None


class EvaluatedClient(Measured):
    """A client that was to evaluate the global model on examples of its own."""

    cut: int = Field(description="Blocks that the client has.")
    loss: float | None = Field(default=None, description="Mean of a labelled token.")
    perplexity: float | None = Field(default=None, description="exp of the loss.")
    dropped: str | None = Field(default=None, description="Why it does not count, if it does not.")


class PersonalisedClient(Record):
    """A client that was to train an adapter of its own, which it keeps, after the last round."""

    num_steps: int = Field(default=0, description="Optimizer steps on that adapter.")
    num_tokens: int = Field(
        default=0, description="Labelled tokens of its held-out examples, of which the losses are."
    )
    loss_before: float | None = Field(
        default=None, description="Mean of a labelled token, with the global adapter."
    )
    loss_after: float | None = Field(
        default=None, description="The same with its own adapter on top."
    )
    perplexity_before: float | None = Field(default=None, description="exp of loss-before.")
    perplexity_after: float | None = Field(default=None, description="exp of loss-after.")
    dropped: str | None = Field(default=None, description="Why it has none, if it has none.")


class LeftOut(Record):
    """A client that was asked and had no part in the round."""

    kind: Literal["silent", "refused", "memory", "away", "gone", "unplanned", "too-few"] = Field(
        description="silent: no answer about its device; refused: an error, or nonsense, for an "
        "answer; memory: the smallest cut does not fit; away: a simulated device that is not "
        "there; gone: it left while the round was prepared; unplanned: nobody could be planned "
        "for; too-few: the round was not held."
    )
    reason: str = Field(description="The same in words.")
    budget_bytes: float | None = Field(
        default=None, description="Memory that it has, where that is why."
    )
    needed_bytes: float | None = Field(
        default=None, description="Memory that its smallest part takes."
    )
