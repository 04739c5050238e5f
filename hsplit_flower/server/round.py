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
from ..planning import Decision
from ..settings import RunSettings
from ..simulation.clock import RoundClock
from ..types import ClientInfo, ClientPlan, DeviceProfile
from .collection import Task, TrainResults
from .dispatch import PendingMessage
from .memory_corrections import MemoryCorrections
from .planned_round import NOTHING_PLANNED
from .round_report import RoundReport
from .state import RunState


@dataclass(frozen=True, kw_only=True)
class OpenRound:
    """A round of training or evaluation while its clients are at work.

    Attributes
    ----------
    server_round, message_type, grid
        Which round, what its messages are, and through what they are sent.
    started_seconds, deadline_seconds
        On clocks that only go up: when it began, and when its replies must be there.
    devices, worker
        What clients and worker have.
    parts, clients
        What each client that takes part is planned to do, and what is known of it; nobody's where
        the round is left out.
    tasks, pending
        What each client was sent home with.
    decision, drift
        Why its plan is what it is.
    moved
        Who began anew on another worker when its own died.
    """

    server_round: int
    message_type: str
    grid: Grid
    started_seconds: float
    deadline_seconds: float = 0.0
    devices: DevicesNow = field(default_factory=DevicesNow)
    worker: DeviceProfile
    parts: Mapping[int, ClientPlan] = field(default_factory=dict)
    clients: Mapping[int, ClientInfo] = field(default_factory=dict)
    tasks: Mapping[int, Task] = field(default_factory=dict)
    pending: Mapping[int, PendingMessage] = field(default_factory=dict)
    decision: Decision = NOTHING_PLANNED
    drift: float = 0.0
    moved: frozenset[int] = frozenset()

    @property
    def trains(self) -> bool:
        """Whether it is one of training."""
        return self.message_type == MessageType.TRAIN


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
    state = replace(state, corrections=_corrected(state.corrections, results))
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


def report_of(
    ended: OpenRound,
    results: TrainResults,
    after: RunState,
    *,
    completed: bool,
    simulated: RoundClock,
) -> RoundReport:
    """What happened in a round of training.

    Parameters
    ----------
    ended, results
        The round, and what its clients brought home.
    after
        What is known after it.
    completed
        Whether it counts.
    simulated
        How long it would have taken on the fleet's devices.
    """
    return RoundReport(
        server_round=ended.server_round,
        clients=results.reports,
        replanned=ended.decision.replan,
        planning_reason=ended.decision.reason,
        drift=ended.drift,
        seconds=time.perf_counter() - ended.started_seconds,
        completed=completed,
        largest_rank=max(after.method.ranks.values(), default=0),
        held_back_share=after.method.held_back_share,
        dropped_share=after.method.dropped_share,
        away=tuple(sorted(ended.devices.away)),
        moved=tuple(sorted(ended.moved & results.reports.keys())),
        simulated=simulated,
    )


def _corrected(corrections: MemoryCorrections, results: TrainResults) -> MemoryCorrections:
    """Plan clients lower that needed more than was predicted, and others for all that they have.

    Those that did not finish for another reason prove nothing.
    """
    for node, error in results.exceeded.items():
        before = corrections.of(node)
        corrections = corrections.learned(node, error)
        log(
            INFO,
            "\t> client %s is planned for 1/%.2f of its memory instead of 1/%.2f: %s",
            node,
            corrections.of(node),
            before,
            error,
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
            log(INFO, "\t> client %s is planned for all of its memory again", node)
    return corrections


def _with_reports(state: RunState, results: TrainResults) -> RunState:
    """What the devices of those that finished have by now, and who failed."""
    clients = state.clients
    for node, reply in results.finished.items():
        if reply.profile is not None:
            clients = clients.updated(node, reply.profile)
    failed = {node for node, report in results.reports.items() if report.dropped}
    return replace(state, clients=clients, failed=state.failed | failed)
