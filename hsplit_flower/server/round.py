"""One round, from who is there to what is known after it: values in, values out."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from logging import INFO

from flwr.app import MessageType
from flwr.common.logger import log
from flwr.serverapp import Grid

from ..devices.source import DevicesNow
from ..methods import Method, advance
from ..names import NUMBERED, ClientNames
from ..planning import Decision
from ..reports.client_records import LeftOut
from ..settings import RunSettings
from ..types import ClientInfo, ClientPlan, DeviceProfile
from .client_lines import client_lines
from .client_report import ClientReport
from .collection import Task, TrainResults
from .dispatch import PendingMessage
from .memory_corrections import MemoryCorrections
from .planned_round import NOTHING_PLANNED
from .run_base import RunBase
from .sessions import Sessions
from .state import RunState


@dataclass(frozen=True, kw_only=True)
class OpenRound:
    """A round of training or evaluation while its clients are at work.

    Attributes
    ----------
    server_round, message_type, grid
        Which round, what its messages are, and through what they are sent.
    started_seconds, sent_seconds, deadline_seconds
        On clocks that only go up: when it began, when its messages went out, and when their replies
        must be there.
    devices, worker, base
        What clients and worker have, and the base that all must have.
    parts, clients, names
        What each client that takes part is planned to do, what is known of it, nobody's where
        the round is left out, and what clients are called.
    left_out
        Who was asked and has no part.
    tasks, pending
        What each client was sent home with.
    decision, drift
        Why its plan is what it is.
    moved, asked_again
        Who began anew on another worker when its own died; and who did, on any, when it had not got
        through to one that lives.
    """

    server_round: int
    message_type: str
    grid: Grid
    started_seconds: float
    sent_seconds: float = 0.0
    deadline_seconds: float = 0.0
    devices: DevicesNow = field(default_factory=DevicesNow)
    worker: DeviceProfile
    base: RunBase = field(default_factory=RunBase)
    parts: Mapping[int, ClientPlan] = field(default_factory=dict)
    clients: Mapping[int, ClientInfo] = field(default_factory=dict)
    names: ClientNames = NUMBERED
    left_out: Mapping[int, LeftOut] = field(default_factory=dict)
    tasks: Mapping[int, Task] = field(default_factory=dict)
    pending: Mapping[int, PendingMessage] = field(default_factory=dict)
    decision: Decision = NOTHING_PLANNED
    drift: float = 0.0
    moved: frozenset[int] = frozenset()
    asked_again: frozenset[int] = frozenset()

    @property
    def trains(self) -> bool:
        """Whether it is one of training."""
        return self.message_type == MessageType.TRAIN

    def completed(
        self, reports: Mapping[int, ClientReport], sessions: Sessions
    ) -> dict[int, ClientReport]:
        """The reports with what is known of each client now that all replies came.

        Of one that counts, what of that time it was not at work. One that does not has not said how
        long it was, nor what it has sent: that its worker counts.
        """
        all_seconds = time.perf_counter() - self.sent_seconds
        dropped = {node for node, report in reports.items() if report.dropped is not None}
        traffic = sessions.traffic_of(dropped) if dropped else {}
        return {
            node: replace(report, traffic=traffic.get(node))
            if node in dropped
            else replace(
                report,
                others_seconds=max(0.0, all_seconds - report.setup_seconds - report.seconds),
            )
            for node, report in reports.items()
        }


def after_training(
    state: RunState,
    results: TrainResults,
    *,
    method: Method,
    settings: RunSettings,
    takes_reports: bool,
) -> RunState:
    """What is known after a round of training.

    Parameters
    ----------
    state
        Before it.
    results
        What its clients brought home.
    method, settings
        Of the run.
    takes_reports
        Whether what a device says of itself is what it has, which no simulated one does.
    """
    corrections = _corrected(state.corrections, results, state.clients.names)
    state = replace(state, corrections=corrections)
    if takes_reports:
        state = _with_reports(state, results)
    finished = results.finished
    if not finished or len(finished) < settings.sampling.min_train_nodes:
        return state
    learned = advance(
        method,
        state.method,
        results.used,
        start=settings.training.start,
        options=settings.aggregation,
    )
    steps = max(reply.num_steps for reply in finished.values())
    return replace(state.with_method(learned), steps_per_client=steps)


def _corrected(
    corrections: MemoryCorrections, results: TrainResults, names: ClientNames
) -> MemoryCorrections:
    """Plan clients lower that needed more than was predicted, and others for all that they have.

    Those that did not finish for another reason prove nothing.
    """
    told: dict[str, str] = {}
    for node, error in results.exceeded.items():
        before = corrections.of(node)
        corrections = corrections.learned(node, error)
        told[names.of(node)] = (
            f"is planned for 1/{corrections.of(node):.2f} of its memory instead of "
            f"1/{before:.2f}: {error}"
        )
    for node, report in results.reports.items():
        if report.dropped is not None:
            continue
        before = corrections.of(node)
        corrections = corrections.relaxed(
            node,
            predicted_bytes=report.plan.memory.total_bytes,
            peak_bytes=report.peak_bytes,
        )
        if corrections.of(node) < before:
            told[names.of(node)] = "is planned for all of its memory again"
    for line in client_lines(told):
        log(INFO, "\t> %s", line)
    return corrections


def _with_reports(state: RunState, results: TrainResults) -> RunState:
    """What the devices of those that finished have by now, and who failed."""
    profiles = {node: reply.profile for node, reply in results.finished.items()}
    clients = state.clients.updated(
        {node: one for node, one in profiles.items() if one is not None}
    )
    failed = {node for node, report in results.reports.items() if report.dropped}
    return replace(state, clients=clients, failed=state.failed | failed)
