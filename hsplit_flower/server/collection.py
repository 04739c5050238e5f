"""What a round's clients brought home, and who fails, why; nothing is sent from here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from logging import WARNING
from typing import Any

from flwr.app import Message
from flwr.common.logger import log

from ..errors import (
    CertificateError,
    HSplitError,
    NoCardError,
    OutOfBudgetError,
    WorkerUnavailableError,
)
from ..methods import ClientResult
from ..metrics import TokenLoss
from ..types import ClientInfo, ClientPlan
from .client_lines import client_lines
from .client_report import ClientReport
from .message_bytes import content_bytes
from .replies import TrainReply, read_reply

NO_ANSWER = "it did not answer in time"
OUT_OF_REACH = (WorkerUnavailableError, CertificateError)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a client was sent home with."""

    plan: ClientPlan
    client: ClientInfo
    name: str = ""
    budget_bytes: float
    worker: str = ""
    message_bytes: int = 0

    def report(self, **values: Any) -> ClientReport:
        """What became of it, with what is known from the start."""
        return ClientReport(
            plan=self.plan,
            name=self.name,
            budget_bytes=self.budget_bytes,
            worker=self.worker,
            flower_down_bytes=self.message_bytes,
            **values,
        )

    def finished(self, reply: TrainReply, reply_bytes: int) -> ClientReport:
        """What became of it where its reply can be used."""
        return self.report(
            num_examples=self.client.num_examples,
            loss=reply.loss,
            first_loss=reply.first_loss,
            last_loss=reply.last_loss,
            num_steps=reply.num_steps,
            num_batch_tokens=reply.num_batch_tokens,
            setup_seconds=reply.setup_seconds,
            seconds=reply.seconds,
            traffic=reply.traffic,
            flower_up_bytes=reply_bytes,
            peak_bytes=reply.peak_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class TrainResults:
    """Who finished with what, a report for everybody, and who ran out of its budget.

    ``used`` is what of it is aggregated, once those that finished have been compared;
    ``unreached`` says for whom the worker was out of reach, and why as they say.
    """

    finished: Mapping[int, TrainReply] = field(default_factory=dict)
    used: Mapping[int, ClientResult] = field(default_factory=dict)
    reports: Mapping[int, ClientReport] = field(default_factory=dict)
    exceeded: Mapping[int, OutOfBudgetError] = field(default_factory=dict)
    no_card: NoCardError | None = None
    unreached: Mapping[int, HSplitError] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Mapping[int, Task]) -> "TrainResults":
        """Before anybody has answered."""
        return cls(reports=_unanswered(tasks))

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
                results = results._with_failure(node, tasks[node], error, reply)
            else:
                num_bytes = content_bytes(reply)
                results = replace(
                    results,
                    finished={**results.finished, node: joined},
                    unreached=_without(results.unreached, node),
                    reports={**results.reports, node: tasks[node].finished(joined, num_bytes)},
                )
        # Sums are rounded by the order of what is added, which is not to be that of arrival.
        in_order = {node: results.finished[node] for node in tasks if node in results.finished}
        return replace(results, finished=in_order)

    def check_cards(self) -> None:
        """See that a later round can be better than this one.

        Raises
        ------
        NoCardError
            If nobody finished and a client has no card to lease.
        """
        if self.no_card is not None and not self.finished:
            raise self.no_card

    def _with_failure(
        self, node: int, task: Task, error: HSplitError, reply: Message
    ) -> "TrainResults":
        report = task.report(
            dropped=str(error),
            flower_up_bytes=content_bytes(reply),
            peak_bytes=error.measured_bytes if isinstance(error, OutOfBudgetError) else 0.0,
        )
        return replace(
            self,
            reports={**self.reports, node: report},
            exceeded={**self.exceeded, node: error}
            if isinstance(error, OutOfBudgetError)
            else self.exceeded,
            no_card=error if isinstance(error, NoCardError) else self.no_card,
            unreached={**self.unreached, node: error}
            if is_out_of_reach(reply, error)
            else self.unreached,
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateResults:
    """A report for everybody who was to evaluate; ``unreached`` as where clients train."""

    reports: Mapping[int, ClientReport] = field(default_factory=dict)
    unreached: Mapping[int, HSplitError] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Mapping[int, Task]) -> "EvaluateResults":
        """Before anybody has answered."""
        return cls(reports=_unanswered(tasks))

    @property
    def unfinished(self) -> list[int]:
        """Whose reply could not be used, or has not come."""
        return [node for node, report in self.reports.items() if report.dropped is not None]

    def with_replies(
        self, replies: Iterable[Message], tasks: Mapping[int, Task]
    ) -> "EvaluateResults":
        """After these came in; those of clients that were not asked are passed over."""
        reports, waited_for = dict(self.reports), set(self.unfinished)
        unreached = dict(self.unreached)
        for reply in replies:
            node = reply.metadata.src_node_id
            if node not in waited_for:
                continue
            num_bytes = content_bytes(reply)
            try:
                measured = read_reply(reply, is_training=False)
            except HSplitError as error:
                reports[node] = tasks[node].report(dropped=str(error), flower_up_bytes=num_bytes)
                if is_out_of_reach(reply, error):
                    unreached[node] = error
            else:
                reports[node] = tasks[node].finished(measured, num_bytes)
                unreached.pop(node, None)
        return EvaluateResults(reports=reports, unreached=unreached)

    def counted(self, least: int) -> TokenLoss:
        """The loss over all tokens, of none if too few finished; who could not is in the log."""
        dropped = {
            report.name or str(node): f"is left out: {report.dropped}"
            for node, report in self.reports.items()
            if report.dropped is not None
        }
        for line in client_lines(dropped):
            log(WARNING, "\t> %s", line)
        losses = [report.loss for report in self.reports.values() if report.dropped is None]
        if len(losses) >= least:
            return sum(losses, TokenLoss())
        log(
            WARNING,
            "aggregate_evaluate: %s clients finished, %s are wanted; nothing is told of them",
            len(losses),
            least,
        )
        return TokenLoss()


def is_out_of_reach(reply: Message, error: HSplitError) -> bool:
    """Whether it is the client that has not got through to the worker."""
    return reply.has_error() and isinstance(error, OUT_OF_REACH)


def _without(unreached: Mapping[int, HSplitError], node: int) -> dict[int, HSplitError]:
    return {other: error for other, error in unreached.items() if other != node}


def _unanswered(tasks: Mapping[int, Task]) -> dict[int, ClientReport]:
    return {node: task.report(dropped=NO_ANSWER) for node, task in tasks.items()}
