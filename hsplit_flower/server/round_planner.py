"""ARMSC over the rounds: the standing plan, what it was made from, and when it is given up."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from logging import INFO, WARNING

from flwr.common.logger import log
from transformers import PretrainedConfig

from ..costs import (
    ModelCosts,
    PartSeconds,
    Workload,
    part_seconds,
    seconds_at,
    trace_costs,
    whole_model_memory,
    worker_half_bytes,
    worker_seconds,
)
from ..errors import ConfigError, InfeasibleBudgetError, OutOfBudgetError
from ..importance import ImportanceHistory, ImportanceReport, blend, history_weight, mean_scores
from ..planning import (
    Decision,
    ReplanSettings,
    drift,
    explain,
    fleet_changes,
    improvement,
    objective,
    plan,
    planned_bytes,
    session_need_bytes,
    shortfalls,
    should_replan,
)
from ..settings import PlanSettings
from ..settings.training import DTYPES, Training, following
from ..simulation.clock import RoundClock, simulate_round
from ..simulation.disturbances import Disturbances
from ..simulation.simulated_devices import SimulatedFleet
from ..splitting import Architecture
from ..types import ClientInfo, ClientPlan, DeviceProfile, Plan, Shortfall, Span, WorkerDescription
from ..wire.codec import value_bytes
from .device_log import Devices, device_changes, log_left_out
from .memory_corrections import MemoryCorrections
from .round_report import ClientReport


class RoundPlanner:
    """Plans each round from who is there, and remembers why.

    Parameters
    ----------
    config, architecture
        Of the model.
    training
        How clients train: the workload that is planned for.
    settings, replanning
        What ARMSC may choose, and how readily it chooses anew.
    fleet
        What simulated clients have; None takes what each client says of itself.
    session_rank
        What a client's adapters may take on the worker, as the rank that it would give to every
        weight; None leaves it to ``settings``.
    disturbances
        What happens to the devices of a simulated fleet; None for nothing.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        architecture: Architecture,
        training: Training,
        settings: PlanSettings,
        replanning: ReplanSettings | None,
        fleet: str | None,
        session_rank: int | None = None,
        disturbances: Disturbances | None = None,
    ) -> None:
        workload = Workload(
            batch_size=training.batch_size,
            sequence_length=training.sequence_length,
            dtype_bytes=DTYPES[training.dtype],
            wire_dtype_bytes=value_bytes(training.hidden_type),
            attention=training.attention or "sdpa",
        )
        architecture.check_cut(settings.min_cut)
        positions = architecture.max_positions
        if positions is not None and training.sequence_length > positions:
            raise ConfigError(
                f"sequence_length (the app's max-length) is {training.sequence_length}: "
                f"the model has {positions} positions"
            )
        self.settings = following(settings, labels=training.labels, start=training.start)
        self._config = config
        self.costs = trace_costs(config, workload)
        if session_rank is not None:
            granted = session_need_bytes(self.costs, rank=session_rank, settings=self.settings)
            self.settings = replace(self.settings, worker_session_bytes=granted)
        self.history = ImportanceHistory()
        self.decision = Decision(replan=False, reason="nothing is planned")
        self.drift = 0.0
        self.standing: Plan | None = None
        self.devices: Mapping[int, DeviceProfile] = {}
        self.away: frozenset[int] = frozenset()
        self.left_out: Mapping[int, Shortfall] = {}
        self._told: Devices = ({}, frozenset())
        self._corrections = MemoryCorrections()
        self._replanning = replanning or ReplanSettings()
        whole = whole_model_memory(self.costs, rank=self.settings.max_rank, settings=self.settings)
        self.fleet = None
        if fleet is not None:
            self.fleet = SimulatedFleet(
                name=fleet,
                whole_model_bytes=whole.total_bytes,
                disturbances=disturbances or Disturbances(),
                seed=training.seed,
            )
        self._worker: DeviceProfile | None = None
        self._profiles: dict[int, DeviceProfile] = {}
        self._planned_from: Mapping[str, float] = {}
        self._rounds_since_plan = 0
        self._update_ranks: Mapping[str, int] = {}

    def meet_worker(self, description: WorkerDescription) -> None:
        """Take what the split worker has; a simulated fleet has a worker of its own.

        It says what it has beside its half, which a plan counts in: several workers' halves once,
        as they are described together.
        """
        half_bytes = worker_half_bytes(self.costs, self.settings)
        own = DeviceProfile(
            memory_bytes=description.memory_bytes + half_bytes,
            flops_per_second=description.flops_per_second,
        )
        self._worker = own if self.fleet is None else self.fleet.worker(own)

    def look(self, members: Mapping[int, ClientInfo], server_round: int) -> None:
        """See what every client has in this round, and who is away."""
        devices = {node: member.profile for node, member in members.items()}
        away: set[int] = set()
        if self.fleet is not None:
            devices, away = self.fleet.in_round(members, server_round)
        self.devices, self.away = devices, frozenset(away)

    def correct(self, node: int, error: OutOfBudgetError) -> None:
        """Plan a client lower from now on, that needed more than was predicted."""
        before = self._corrections.of(node)
        factor = self._corrections.learn(node, error)
        log(
            INFO,
            "\t> client %s is planned for 1/%.2f of its memory instead of 1/%.2f: %s",
            node,
            factor,
            before,
            error,
        )

    def confirm(self, reports: Mapping[int, ClientReport]) -> None:
        """Plan clients for all of their memory again that were corrected, and prove to need less.

        Parameters
        ----------
        reports
            Of a round; those that did not finish prove nothing.
        """
        for node, report in reports.items():
            predicted = report.plan.memory.total_bytes
            if report.dropped is None and self._corrections.relax(
                node, predicted_bytes=predicted, peak_bytes=report.peak_bytes
            ):
                log(INFO, "\t> client %s is planned for all of its memory again", node)

    def begin(self, update_ranks: Mapping[str, int]) -> None:
        """Begin a round, for which nothing is decided yet, with a global update of these ranks."""
        self.decision = Decision(replan=False, reason="nothing is planned")
        self._update_ranks = dict(update_ranks)

    def unfit(self, nodes: Iterable[int]) -> set[int]:
        """Which of these do not hold the smallest cut, of those whose devices are known."""
        known = {node: self.devices[node] for node in nodes if node in self.devices}
        return set(self._shortfalls(known))

    def plan_round(
        self,
        members: Mapping[int, ClientInfo],
        update_ranks: Mapping[str, int],
        server_round: int = 1,
        *,
        num_sessions: int | None = None,
    ) -> Plan:
        """The plan for these clients: the standing one, or a new one if there is reason for it.

        Those that are away in this round are left out. Where nobody can be planned for in a run
        that has begun, or that only waits for devices that are away, nobody is.

        Parameters
        ----------
        members
            All that are known, sampled or not.
        update_ranks
            Rank of the global update by weight name.
        server_round
            Which round it is.
        num_sessions
            How many of them take part in it, and load the worker; None for all.

        Raises
        ------
        InfeasibleBudgetError
            If the run has no plan yet and can have none: no client's budget holds the smallest
            cut, or the worker not its half.
        """
        self.look(members, server_round)
        for line in device_changes(self._told, (self.devices, self.away)):
            log(INFO, "\t> %s", line)
        self._told = self.devices, self.away
        self._update_ranks = dict(update_ranks)
        present = {node: own for node, own in self.devices.items() if node not in self.away}
        self.left_out = self._shortfalls(present)
        num_able = len(present) - len(self.left_out)
        share = min(1.0, num_sessions / num_able) if num_sessions and num_able else 1.0
        self.settings = replace(self.settings, round_share=share)
        try:
            made = self._made_for(present)
        except InfeasibleBudgetError as error:
            if self.standing is None and not self._could_plan(self.devices):
                raise
            log(WARNING, "Nobody is planned for: %s", error)
            self.decision = Decision(replan=False, reason=str(error))
            made = Plan(clients={}, left_out=self.left_out)
        log_left_out(self.left_out)
        self._corrections.fade(
            node
            for node, shortfall in self.left_out.items()
            if shortfall.budget_bytes >= shortfall.needed_bytes
        )
        return made

    def _made_for(self, present: Mapping[int, DeviceProfile]) -> Plan:
        """The standing plan, after it has been made anew if there is reason for it."""
        self.decision = self._decide(present)
        if self.decision.replan or self.standing is None:
            self.standing = self._plan(present)
            self._planned_from = dict(self.history.scores)
            self._profiles = self._corrections.applied(present)
            self._rounds_since_plan = 0
            log(INFO, "Planned anew: %s", self.decision.reason)
            for line in explain(self.standing, self._profiles).splitlines():
                log(INFO, "\t%s", line)
        else:
            log(INFO, "The plan stands: %s", self.decision.reason)
        self._rounds_since_plan += 1
        return self.standing

    def learn(self, reports: list[ImportanceReport]) -> None:
        """Blend this round's importance into what is known (DESIGN 3.1)."""
        today = mean_scores(reports)
        if not today:
            return
        moved = drift(today, self.history.scores) if self.history.num_rounds else 1.0
        beta = history_weight(self.history.num_rounds, moved)
        self.history = blend(self.history, today, beta)

    def simulated(self, reports: Mapping[int, ClientReport]) -> RoundClock:
        """How long the clients that finished would have taken on their own devices.

        Plans are made for the largest batches; a round is as long as the mean of a client's were.
        """
        steps = {}
        for node, report in reports.items():
            if report.dropped:
                continue
            first, other = (self._seconds(node, report, scores=scores) for scores in (True, False))
            steps[node] = [first, *[other] * (report.num_steps - 1)][: report.num_steps]
        return simulate_round(steps)

    def _seconds(self, node: int, report: ClientReport, *, scores: bool) -> PartSeconds:
        """One step of a client's round, of as many tokens as its steps had in the mean."""

        def seconds(costs: ModelCosts) -> PartSeconds:
            return part_seconds(
                costs,
                report.plan,
                profile=self.devices[node],
                worker=self._known_worker(),
                labels=self.settings.labels,
                start=self.settings.start,
                update_ranks=self._update_ranks,
                scores=scores,
            )

        # A smaller batch counts as one of shorter rows, and no client's word for more than was
        # planned for.
        workload = self.costs.workload
        length = max(0.0, report.num_batch_tokens / (report.num_steps * workload.batch_size))
        if length >= workload.sequence_length:
            return seconds(self.costs)
        known = (self.costs, self._shorter_costs)
        return seconds_at(length, {c.workload.sequence_length: seconds(c) for c in known})

    @cached_property
    def _shorter_costs(self) -> ModelCosts:
        """The model's costs at another length of rows; traced when batches first were shorter."""
        workload = self.costs.workload
        length = workload.sequence_length // 2 or 2
        return trace_costs(self._config, replace(workload, sequence_length=length))

    def parts_for_evaluation(self, nodes: Collection[int]) -> dict[int, ClientPlan]:
        """Each client's cut without any ranks, and what it takes of the worker compared to others.

        Evaluation trains nothing. Who cannot hold the smallest cut is left out here, too.
        """
        cuts: dict[int, int] = {}
        if self.standing is not None:
            cuts = {node: part.cut for node, part in self.standing.clients.items()}
        unfit = self.unfit(nodes)
        return {
            node: self._part_for_evaluation(cuts.get(node, self.settings.min_cut))
            for node in nodes
            if node not in unfit
        }

    def _part_for_evaluation(self, cut: int) -> ClientPlan:
        seconds = worker_seconds(
            self.costs, cut=cut, worker=self._known_worker(), labels=self.settings.labels
        )
        return ClientPlan(span=Span(start=0, stop=cut), ranks={}, worker_seconds=seconds)

    def _decide(self, present: Mapping[int, DeviceProfile]) -> Decision:
        if self.standing is None:
            return Decision(replan=True, reason="the first round")
        self.drift = drift(self.history.scores, self._planned_from)
        needed = planned_bytes(
            self.standing, self.costs, settings=self.settings, update_ranks=self._update_ranks
        )
        now = self._corrections.applied(present)
        changes = fleet_changes(self.standing, self._profiles, now, needed_bytes=needed)
        ask = partial(
            should_replan,
            drift=self.drift,
            changes=changes,
            rounds_since_plan=self._rounds_since_plan,
            settings=self._replanning,
        )
        first = ask()
        if not first.replan or changes.unserved:
            return first
        gain = improvement(
            self._objective(self.standing, present),
            self._objective(self._plan(present), present),
        )
        return ask(improvement=gain)

    def _shortfalls(self, devices: Mapping[int, DeviceProfile]) -> dict[int, Shortfall]:
        return shortfalls(
            self.costs,
            devices,
            settings=self.settings,
            update_ranks=self._update_ranks,
            corrections=self._corrections.factors(),
        )

    def _could_plan(self, devices: Mapping[int, DeviceProfile]) -> bool:
        """Whether there is a plan for these devices."""
        try:
            self._plan(devices)
        except InfeasibleBudgetError:
            return False
        return True

    def _plan(self, devices: Mapping[int, DeviceProfile]) -> Plan:
        return plan(
            self.costs,
            devices,
            self._known_worker(),
            importance=self.history.scores or None,
            settings=self.settings,
            update_ranks=self._update_ranks,
            corrections=self._corrections.factors(),
        )

    def _objective(self, some_plan: Plan, profiles: Mapping[int, DeviceProfile]) -> float:
        return objective(
            some_plan,
            self.costs,
            profiles,
            self._known_worker(),
            importance=self.history.scores or None,
            settings=self.settings,
        )

    def _known_worker(self) -> DeviceProfile:
        assert self._worker is not None, "the worker is met before the first round"
        return self._worker
