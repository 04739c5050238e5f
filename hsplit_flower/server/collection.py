"""What a round's clients brought home, joined with what their sessions learnt; who fails, why."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.app import Message
from flwr.common.logger import log

from ..errors import HSplitError, NoCardError, OutOfBudgetError
from ..metrics import TokenLoss
from ..splitting import Architecture
from ..types import ClientInfo, ClientPlan
from .dispatch import Dispatch
from .global_adapter import GlobalAdapter
from .replies import TrainReply, check_side, join_halves, read_reply
from .round_report import ClientReport
from .worker_sessions import WorkerSessions

NO_ANSWER = "it did not answer in time"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a client was sent home with."""

    plan: ClientPlan
    member: ClientInfo
    budget_bytes: float


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Who finished with what, a report for everybody, and who ran out of its budget."""

    finished: Mapping[int, TrainReply]
    reports: Mapping[int, ClientReport]
    exceeded: Mapping[int, OutOfBudgetError]


class Gatherer:
    """Takes a round's replies apart, and has those told again whose worker died.

    Parameters
    ----------
    architecture
        Of the model: which weights lie where.
    adapter
        Knows what can be aggregated.
    sessions
        The worker's side.
    dispatch
        Sends clients to other workers.
    """

    def __init__(
        self,
        architecture: Architecture,
        adapter: GlobalAdapter,
        sessions: WorkerSessions,
        dispatch: Dispatch,
    ) -> None:
        self._architecture = architecture
        self._adapter = adapter
        self._sessions = sessions
        self._dispatch = dispatch

    def gather(self, replies: Iterable[Message], tasks: Mapping[int, Task]) -> Gathered:
        """Both halves of what each client trained; who does not count is told why in the log.

        Raises
        ------
        NoCardError
            If nobody finished and a client has no card to lease: no later round will be better.
        """
        finished: dict[int, TrainReply] = {}
        exceeded: dict[int, OutOfBudgetError] = {}
        no_card: NoCardError | None = None
        reports = {node: _report(task, dropped=NO_ANSWER) for node, task in tasks.items()}
        came = list(replies)
        while came:
            for reply in came:
                node = reply.metadata.src_node_id
                if node not in tasks:
                    continue
                try:
                    finished[node] = self._join_halves(node, tasks[node].plan, reply)
                    reports[node] = _report(tasks[node], finished[node])
                except HSplitError as error:
                    peak_bytes = 0.0
                    if isinstance(error, OutOfBudgetError):
                        exceeded[node], peak_bytes = error, error.measured_bytes
                    if isinstance(error, NoCardError):
                        no_card = error
                    reports[node] = _report(tasks[node], dropped=str(error), peak_bytes=peak_bytes)
            done = finished.keys() | exceeded.keys()
            came = self._dispatch.again([node for node in tasks if node not in done])
        for node, report in reports.items():
            log(WARNING if report.dropped else INFO, "\t> client %s: %s", node, report.line())
        if no_card is not None and not finished:
            raise no_card
        return Gathered(finished=finished, reports=reports, exceeded=exceeded)

    def gather_losses(
        self, replies: Iterable[Message], tasks: Collection[int], *, least: int
    ) -> dict[int, TokenLoss]:
        """What each client evaluated, nothing if too few could; who could not is told in the log.

        Parameters
        ----------
        replies
            Of the clients.
        tasks
            The clients that were asked.
        least
            With fewer the evaluation does not count.
        """
        losses: dict[int, TokenLoss] = {}
        failures: dict[int, HSplitError | str] = dict.fromkeys(tasks, NO_ANSWER)
        came = list(replies)
        while came:
            for reply in came:
                node = reply.metadata.src_node_id
                if node not in tasks:
                    continue
                failures.pop(node, None)
                try:
                    losses[node] = read_reply(reply, is_training=False).loss
                except HSplitError as error:
                    failures[node] = error
            came = self._dispatch.again(failures)
        for node, reason in failures.items():
            log(WARNING, "\t> client %s is left out: %s", node, reason)
        if len(losses) < least:
            log(
                WARNING,
                "aggregate_evaluate: %s clients finished, %s are wanted; nothing is told of them",
                len(losses),
                least,
            )
            return {}
        return losses

    def _join_halves(self, node: int, part: ClientPlan, reply: Message) -> TrainReply:
        below = read_reply(reply, is_training=True)
        names = {weight.name for weight in self._architecture.weights_in(part.span)}
        check_side(below, part.ranks, names)
        joined = join_halves(below, self._sessions.collect(node))
        self._adapter.check(joined.updates)
        return joined


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
        num_examples=task.member.num_examples,
        loss=client.loss,
        num_steps=client.num_steps,
        num_batch_tokens=client.num_batch_tokens,
        seconds=client.seconds,
        budget_bytes=task.budget_bytes,
        peak_bytes=client.peak_bytes,
    )
