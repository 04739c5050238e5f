"""What a round's clients brought home, and who fails, why; nothing is sent from here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from logging import INFO, WARNING

from flwr.app import Message
from flwr.common.logger import log

from ..errors import HSplitError, NoCardError, OutOfBudgetError
from ..methods import ClientResult
from ..metrics import TokenLoss
from ..types import ClientInfo, ClientPlan
from .replies import TrainReply, read_reply
from .round_report import ClientReport

NO_ANSWER = "it did not answer in time"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a client was sent home with."""

    plan: ClientPlan
    client: ClientInfo
    budget_bytes: float


@dataclass(frozen=True, kw_only=True)
class TrainResults:
    """Who finished with what, a report for everybody, and who ran out of its budget.

    ``used`` is what of it is aggregated, once those that finished have been compared.
    """

    finished: Mapping[int, TrainReply] = field(default_factory=dict)
    used: Mapping[int, ClientResult] = field(default_factory=dict)
    reports: Mapping[int, ClientReport] = field(default_factory=dict)
    exceeded: Mapping[int, OutOfBudgetError] = field(default_factory=dict)
    no_card: NoCardError | None = None

    @classmethod
    def of(cls, tasks: Mapping[int, Task]) -> "TrainResults":
        """Before anybody has answered."""
        return cls(reports={node: _report(task, dropped=NO_ANSWER) for node, task in tasks.items()})

    @property
    def unfinished(self) -> list[int]:
        """Whose reply, or whose session, could not be used, for another reason than its budget."""
        done = self.finished.keys() | self.exceeded.keys()
        return [node for node in self.reports if node not in done]

    def with_replies(
        self,
        replies: Iterable[Message],
        tasks: Mapping[int, Task],
        join: Callable[[int, ClientPlan, Message], TrainReply],
    ) -> "TrainResults":
        """After these came in.

        Parameters
        ----------
        replies
            Of clients; those of others are passed over.
        tasks
            What each client was asked for.
        join
            Gives both halves of what a client trained, or raises why it does not count.
        """
        results = self
        for reply in replies:
            node = reply.metadata.src_node_id
            if node not in tasks:
                continue
            try:
                joined = join(node, tasks[node].plan, reply)
            except HSplitError as error:
                results = results._with_failure(node, tasks[node], error)
            else:
                results = replace(
                    results,
                    finished={**results.finished, node: joined},
                    reports={**results.reports, node: _report(tasks[node], joined)},
                )
        return results

    def log(self) -> None:
        """Say of every client what came of it.

        Raises
        ------
        NoCardError
            If nobody finished and a client has no card to lease: no later round will be better.
        """
        for node, report in self.reports.items():
            level = WARNING if report.dropped or report.is_suspicious else INFO
            log(level, "\t> client %s: %s", node, report.line())
        if self.no_card is not None and not self.finished:
            raise self.no_card

    def _with_failure(self, node: int, task: Task, error: HSplitError) -> "TrainResults":
        report = _report(
            task,
            dropped=str(error),
            peak_bytes=error.measured_bytes if isinstance(error, OutOfBudgetError) else 0.0,
        )
        return replace(
            self,
            reports={**self.reports, node: report},
            exceeded={**self.exceeded, node: error}
            if isinstance(error, OutOfBudgetError)
            else self.exceeded,
            no_card=error if isinstance(error, NoCardError) else self.no_card,
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateResults:
    """What each client evaluated, and why the others could not."""

    losses: Mapping[int, TokenLoss] = field(default_factory=dict)
    failures: Mapping[int, HSplitError | str] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Iterable[int]) -> "EvaluateResults":
        """Before anybody has answered."""
        return cls(failures=dict.fromkeys(tasks, NO_ANSWER))

    def with_replies(self, replies: Iterable[Message]) -> "EvaluateResults":
        """After these came in; those of clients that were not asked are passed over."""
        losses, failures = dict(self.losses), dict(self.failures)
        for reply in replies:
            node = reply.metadata.src_node_id
            if failures.pop(node, None) is None:
                continue
            try:
                losses[node] = read_reply(reply, is_training=False).loss
            except HSplitError as error:
                failures[node] = error
        return EvaluateResults(losses=losses, failures=failures)

    def counted(self, least: int) -> Mapping[int, TokenLoss]:
        """The losses, none if these are too few; who could not is told in the log."""
        for node, reason in self.failures.items():
            log(WARNING, "\t> client %s is left out: %s", node, reason)
        if len(self.losses) >= least:
            return self.losses
        log(
            WARNING,
            "aggregate_evaluate: %s clients finished, %s are wanted; nothing is told of them",
            len(self.losses),
            least,
        )
        return {}


def _report(
    task: Task,
    client: TrainReply | None = None,
    *,
    dropped: str | None = None,
    peak_bytes: float = 0.0,
) -> ClientReport:
    if client is None:
        return ClientReport(
            plan=task.plan,
            budget_bytes=task.budget_bytes,
            dropped=dropped,
            peak_bytes=peak_bytes,
        )
    return ClientReport(
        plan=task.plan,
        num_examples=task.client.num_examples,
        loss=client.loss,
        num_steps=client.num_steps,
        num_batch_tokens=client.num_batch_tokens,
        seconds=client.seconds,
        budget_bytes=task.budget_bytes,
        peak_bytes=client.peak_bytes,
    )
