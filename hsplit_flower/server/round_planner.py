"""ARMSC over the rounds: which plan a round goes by, and why it is another one or the same."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from logging import INFO, WARNING

from flwr.common.logger import log
from transformers import PretrainedConfig

from ..costs import (
    trace_costs,
    whole_model_memory,
    worker_half_bytes,
    worker_seconds,
)
from ..devices.source import DevicesNow
from ..errors import ConfigError, InfeasibleBudgetError
from ..methods import Method, RankRule, trained_ranks
from ..planning import (
    Decision,
    drift,
    fleet_changes,
    improvement,
    objective,
    plan,
    planned_bytes,
    shortfalls,
    should_replan,
)
from ..planning.standing_plan import StandingPlan
from ..settings import PlanSettings, RunSettings
from ..splitting import Architecture
from ..types import ClientPlan, DeviceProfile, Plan, Shortfall, Span, WorkerDescription
from .device_log import device_changes, log_left_out
from .message_check import check_messages
from .plan_basis import (
    costs_for,
    granted,
    held_ranks,
    settings_for,
    shared_by,
    workload_of,
)
from .planned_round import PlannedRound, PlanQuestion
from .state import RunState


class RoundPlanner:
    """Plans rounds of one model for one method; keeps nothing of them.

    Parameters
    ----------
    config, architecture
        Of the model.
    settings
        Of the run: the workload that is planned for, and what may be chosen.
    method
        By which rules.

    Raises
    ------
    ConfigError
        If the settings do not fit the model, or a step's messages not the link.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        architecture: Architecture,
        settings: RunSettings,
        method: Method,
    ) -> None:
        training, planning = settings.training, settings.planning
        architecture.check_cut(planning.min_cut)
        if not architecture.has_positions(training.sequence_length):
            raise ConfigError(
                f"training.sequence-length is {training.sequence_length}: the model has "
                f"{architecture.max_positions} positions"
            )
        self.hidden_size = architecture.hidden_size
        check_messages(settings, method, self.hidden_size)
        traced = trace_costs(config, workload_of(settings))
        self._method = method
        self.costs = costs_for(method, traced)
        self.settings = settings_for(method, settings, self.costs)
        # For which a fleet is simulated: the same one, whatever the method.
        self._unsplit = traced, granted(method.plan_settings(planning, training), traced)
        self._knows_importance = method.ranks is RankRule.BY_IMPORTANCE

    @property
    def whole_model_bytes(self) -> float:
        """What the whole model needs to be trained with the highest ranks."""
        costs, settings = self._unsplit
        return whole_model_memory(costs, rank=settings.max_rank, settings=settings).total_bytes

    def worker_profile(self, description: WorkerDescription) -> DeviceProfile:
        """What the split worker has to be planned with.

        It says what it has beside its half, which a plan counts in: several workers' halves once,
        as they are described together.
        """
        half_bytes = worker_half_bytes(self.costs, self.settings)
        return DeviceProfile(
            memory_bytes=description.memory_bytes + half_bytes,
            flops_per_second=description.flops_per_second,
        )

    def shortfalls(
        self, nodes: Collection[int], devices: DevicesNow, state: RunState
    ) -> dict[int, Shortfall]:
        """Which of these do not hold the smallest cut, of those whose devices are known."""
        known = {node: devices.profiles[node] for node in nodes if node in devices.profiles}
        return self._shortfalls(known, state, self.settings)

    def plan_round(
        self,
        state: RunState,
        devices: DevicesNow,
        worker: DeviceProfile,
        *,
        num_sessions: int | None = None,
    ) -> PlannedRound:
        """The plan of a round: the standing one, or a new one if there is reason.

        Those that are away in this round are left out. Where nobody can be planned for in a run
        that has begun, or that only waits for devices that are away, nobody is.

        Parameters
        ----------
        state
            What is known from the rounds before.
        devices
            Of all clients that are known and connected, sampled or not.
        worker
            What the split worker has.
        num_sessions
            How many of the clients take part, and load the worker; None for all.

        Raises
        ------
        InfeasibleBudgetError
            If the run has no plan yet and can have none: no client's budget holds the smallest
            cut, or the worker not its half.
        """
        for line in device_changes(state.devices, devices, state.clients.names):
            log(INFO, "\t> %s", line)
        left_out = self._shortfalls(devices.present, state, self.settings)
        asked = PlanQuestion(
            state=state,
            present=devices.present,
            left_out=left_out,
            worker=worker,
            settings=shared_by(self.settings, len(devices.present) - len(left_out), num_sessions),
        )
        try:
            planned = self._made_for(asked)
        except InfeasibleBudgetError as error:
            if state.standing is None and not self._could_plan(asked, devices.profiles):
                raise
            log(WARNING, "Nobody is planned for: %s", error)
            planned = asked.by_nobody(Decision(replan=False, reason=str(error)))
        news = {node: own for node, own in left_out.items() if state.left_out.get(node) != own}
        log_left_out(news, state.clients.names)
        return planned

    def part_of(self, node: int, planned: ClientPlan, state: RunState) -> ClientPlan:
        """A client's part of the plan, at the ranks that it still has."""
        ranks = trained_ranks(self._method, state.method, node, planned.ranks)
        return planned if ranks == planned.ranks else replace(planned, ranks=ranks)

    def parts_for_evaluation(
        self, state: RunState, nodes: Collection[int], devices: DevicesNow, worker: DeviceProfile
    ) -> tuple[dict[int, ClientPlan], dict[int, Shortfall]]:
        """Each client's cut without any ranks, and what it takes of the worker compared to others.

        Evaluation trains nothing. With them, who cannot hold the smallest cut and is left out here,
        too, and what it lacks.
        """
        planned = {} if state.standing is None else state.standing.plan.clients
        unfit = self.shortfalls(nodes, devices, state)
        parts = {}
        for node in nodes:
            if node in unfit:
                continue
            cut = planned[node].cut if node in planned else self.settings.min_cut
            seconds = worker_seconds(
                self.costs, cut=cut, worker=worker, labels=self.settings.labels
            )
            span = Span(start=0, stop=cut)
            parts[node] = ClientPlan(span=span, ranks={}, worker_seconds=seconds)
        return parts, unfit

    def _made_for(self, asked: PlanQuestion) -> PlannedRound:
        """The standing plan, after it has been made anew if there is reason for it."""
        decision, moved = self._decide(asked)
        standing = asked.state.standing
        if decision.replan or standing is None:
            profiles = asked.state.corrections.applied(asked.present)
            standing = StandingPlan(
                plan=self._plan(asked),
                importance=dict(self._importance(asked.state) or {}),
                profiles=profiles,
            )
            seconds = standing.plan.step_seconds
            log(INFO, "Planned anew: %s; a step is to take %.3g s", decision.reason, seconds)
        else:
            log(INFO, "The plan stands: %s", decision.reason)
        stands = replace(standing, num_rounds=standing.num_rounds + 1)
        return asked.answered(stands.plan, stands, decision, moved)

    def _decide(self, asked: PlanQuestion) -> tuple[Decision, float]:
        """Whether to plan anew and why, and how far importance has moved."""
        state, standing = asked.state, asked.state.standing
        if standing is None:
            return Decision(replan=True, reason="the first round"), 0.0
        moved = drift(self._importance(state) or {}, standing.importance)
        needed = planned_bytes(
            standing.plan,
            self.costs,
            settings=asked.settings,
            update_ranks=self._held_ranks(state),
        )
        now = state.corrections.applied(asked.present)
        changes = fleet_changes(standing.plan, standing.profiles, now, needed_bytes=needed)
        ask = partial(
            should_replan,
            drift=moved,
            changes=changes,
            rounds_since_plan=standing.num_rounds,
            settings=asked.settings,
            names=state.clients.names,
        )
        first = ask()
        if not first.replan or changes.unserved:
            return first, moved
        gain = improvement(
            self._objective(standing.plan, asked), self._objective(self._plan(asked), asked)
        )
        return ask(improvement=gain), moved

    def _shortfalls(
        self, devices: Mapping[int, DeviceProfile], state: RunState, settings: PlanSettings
    ) -> dict[int, Shortfall]:
        return shortfalls(
            self.costs,
            devices,
            settings=settings,
            update_ranks=self._held_ranks(state),
            corrections=state.corrections.factors(),
        )

    def _could_plan(self, asked: PlanQuestion, devices: Mapping[int, DeviceProfile]) -> bool:
        """Whether there is a plan for these devices."""
        try:
            self._plan(replace(asked, present=devices))
        except InfeasibleBudgetError:
            return False
        return True

    def _plan(self, asked: PlanQuestion) -> Plan:
        return plan(
            self.costs,
            asked.present,
            asked.worker,
            importance=self._importance(asked.state),
            settings=asked.settings,
            update_ranks=self._held_ranks(asked.state),
            corrections=asked.state.corrections.factors(),
            names=asked.state.clients.names,
        )

    def _objective(self, some_plan: Plan, asked: PlanQuestion) -> float:
        return objective(
            some_plan,
            self.costs,
            asked.present,
            asked.worker,
            importance=self._importance(asked.state),
            settings=asked.settings,
        )

    def _held_ranks(self, state: RunState) -> Mapping[str, int]:
        return held_ranks(self._method, state.method.ranks, self.costs)

    def _importance(self, state: RunState) -> Mapping[str, float] | None:
        """What ranks are chosen by; None where nothing is known, or the method asks for nothing."""
        return (state.method.importance.scores or None) if self._knows_importance else None
