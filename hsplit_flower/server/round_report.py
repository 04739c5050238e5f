"""What happened in a round, as plain values: for the log, for files, for whoever asks."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..metrics import TokenLoss
from ..names import NUMBERED, ClientNames
from ..reports.client_records import LeftOut
from ..reports.metrics import ClientEvaluationLine, TrainingLine
from ..reports.plan import LeftOutNode, PlannedClient, PlanRecord
from ..simulation.clock import RoundClock
from .client_report import ClientReport


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """One round of training; clients stand under their ids, ``names`` says what they are called.

    ``left_out`` are those that were asked and had no part; ``moved`` those that began anew on
    another worker when theirs died; ``seconds`` were measured, those of ``simulated`` are what the
    clients that finished would have taken on their own devices. ``importance`` is by weight, and
    ``blocks`` says which block of the model a weight is in.
    """

    server_round: int
    clients: Mapping[int, ClientReport]
    replanned: bool
    planning_reason: str
    drift: float
    seconds: float
    completed: bool
    names: ClientNames = NUMBERED
    left_out: Mapping[int, LeftOut] = field(default_factory=dict)
    importance: Mapping[str, float] = field(default_factory=dict)
    blocks: Mapping[str, int] = field(default_factory=dict)
    largest_rank: int = 0
    held_back_share: float = 0.0
    dropped_share: float = 0.0
    moved: tuple[int, ...] = ()
    simulated: RoundClock = field(default_factory=RoundClock)

    @property
    def away(self) -> tuple[int, ...]:
        """Clients that a simulated fleet was without."""
        return tuple(sorted(node for node, one in self.left_out.items() if one.kind == "away"))

    def record(self) -> TrainingLine:
        """Its line of metrics."""
        clocks = self.simulated.clients
        return TrainingLine(
            server_round=self.server_round,
            completed=self.completed,
            seconds=self.seconds,
            simulated_seconds=self.simulated.seconds,
            replanned=self.replanned,
            planning_reason=self.planning_reason,
            drift=self.drift,
            largest_rank=self.largest_rank,
            held_back_share=self.held_back_share,
            dropped_share=self.dropped_share,
            importance=dict(self.importance),
            moved=tuple(map(self.names.of, self.moved)),
            clients={
                self.names.of(node): client.trained(self._block_ranks(client), clocks.get(node))
                for node, client in self.clients.items()
            },
            left_out={self.names.of(node): one for node, one in self.left_out.items()},
        )

    def plan(self) -> PlanRecord:
        """The plan that it went by."""
        return PlanRecord(
            server_round=self.server_round,
            planning_reason=self.planning_reason,
            clients={
                self.names.of(node): _planned(node, client) for node, client in self.clients.items()
            },
            left_out={
                self.names.of(node): LeftOutNode(node=node, **dict(one))
                for node, one in self.left_out.items()
            },
        )

    def _block_ranks(self, client: ClientReport) -> list[int]:
        sums = [0] * (max(self.blocks.values(), default=-1) + 1)
        for weight, rank in client.plan.ranks.items():
            if weight in self.blocks:
                sums[self.blocks[weight]] += rank
        return sums


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """The global model, evaluated by clients on examples of their own.

    ``loss`` is over the tokens of all that count; of no token where too few finished.
    """

    server_round: int
    clients: Mapping[int, ClientReport]
    seconds: float
    loss: TokenLoss = field(default_factory=TokenLoss)
    names: ClientNames = NUMBERED
    left_out: Mapping[int, LeftOut] = field(default_factory=dict)

    def record(self) -> ClientEvaluationLine:
        """Its line of metrics."""
        has_loss = self.loss.num_tokens > 0
        return ClientEvaluationLine(
            server_round=self.server_round,
            loss=self.loss.mean if has_loss else None,
            perplexity=self.loss.perplexity if has_loss else None,
            seconds=self.seconds,
            clients={
                self.names.of(node): client.evaluated() for node, client in self.clients.items()
            },
            left_out={self.names.of(node): one for node, one in self.left_out.items()},
        )


Observer = Callable[[RoundReport], None]
EvaluationObserver = Callable[[EvaluationReport], None]


def _planned(node: int, client: ClientReport) -> PlannedClient:
    plan = client.plan
    return PlannedClient(
        node=node,
        cut=plan.cut,
        binds=plan.binds or "method",
        why=plan.why,
        ranks=dict(plan.ranks),
        checkpointing=plan.checkpointing,
        budget_bytes=client.budget_bytes,
        memory=asdict(plan.memory),
        client_seconds=plan.client_seconds,
        worker_seconds=plan.worker_seconds,
        wire_bytes=plan.wire_bytes,
    )


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
