"""Any method as a Flower strategy: messages in, core called, messages out."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import ClassVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from ..adapters import PeftSettings
from ..methods import Method, MethodState
from ..settings import RunSettings
from ..simulation.simulated_devices import device_source
from ..splitting import read_architecture
from ..splitting.checkpoint import Checkpoint
from ..types import ClientPlan
from ..wire.work_done import WorkDone
from .collection import EvaluateResults, TrainResults
from .comparison import with_comparison
from .flower_log import errors_in_words, flowers_lines
from .global_adapter import adapter_from, starting_arrays
from .personalisation import Personalisation
from .preflight import check_place, is_simulated_here
from .progress import Progress
from .reach import Reach
from .replies import TrainReply
from .reporting import Reporting
from .resumption import check_resumable, renumbered, renumbered_result
from .round import OpenRound, after_training
from .round_clock import FleetClock
from .round_log import RoundLog
from .round_messages import RoundMessages
from .round_planner import RoundPlanner
from .round_report import EvaluationObserver, Observer, train_metrics
from .round_setup import RoundSetup
from .run_end import check_end
from .sessions import Sessions
from .state import RunState
from .summary import log_summary


class FederatedStrategy(Strategy, ABC):
    """Rounds of a method, whatever of the model its clients have.

    All that crosses a round is its `state`. A subclass says what of clients' replies is taken.

    Parameters
    ----------
    settings
        Of the run, as the method has completed them.
    observer
        Is called with a report after every round of training.
    evaluation_observer
        Is called with a report after every evaluation by clients.
    sessions
        The part of a round that is not on its clients.
    look
        What of a round is done by now, where that can be asked.
    """

    method: ClassVar[Method]

    def __init__(
        self,
        settings: RunSettings,
        *,
        observer: Observer | None,
        evaluation_observer: EvaluationObserver | None = None,
        sessions: Sessions,
        look: Callable[[], WorkDone] | None = None,
    ) -> None:
        self.settings = settings
        self.observer = observer
        self.evaluation_observer = evaluation_observer
        base = settings.model
        config = Checkpoint(source=base.name, revision=base.revision or None).config()
        self._config, self.architecture = config, read_architecture(config)
        self.planner = RoundPlanner(config, self.architecture, settings, self.method)
        quantised = self.planner.costs.workload.quantised
        self.method.check_base(quantised)
        self.devices = device_source(
            settings.simulation,
            whole_model_bytes=self.planner.whole_model_bytes,
            seed=settings.training.seed,
        )
        self.state = RunState.fresh(self.architecture.weights)
        self._sessions = sessions
        self._open_worker = partial(
            sessions.open_worker, num_blocks=self.architecture.num_blocks, quantised=quantised
        )
        self._setup = RoundSetup(self.planner, self.devices, settings, self.method)
        self._messages = RoundMessages(settings, self.method, self.architecture, self._sessions)
        self.personalisation = Personalisation(settings, self._setup, self._messages, sessions)
        a_step = settings.training.gradient_accumulation_steps
        clock = FleetClock(config, self.planner.costs, self.planner.settings, self.method, a_step)
        self._reporting = Reporting(self.architecture, clock)
        self._progress, self._log, self._reach = Progress(look), RoundLog(), Reach(settings.worker)
        self._timeout_seconds, self._num_rounds, self._rounds_before = 3600.0, 1, 0
        self._open_round: OpenRound | None = None

    @abstractmethod
    def _taken(self, node: int, part: ClientPlan, reply: Message) -> TrainReply:
        """All that a client trained, if it fits the plan and what the method knows.

        Raises
        ------
        HSplitError
            Why it does not count.
        """

    @property
    def adapter(self) -> MethodState:
        """The global adapter, ``updates`` by weight name, and what is kept beside it."""
        return self.state.method

    @errors_in_words()
    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
        *,
        initial_config: PeftSettings | None = None,
        resume: RunState | None = None,
    ) -> Result:
        """Run the rounds; what they need besides clients is started before and stopped after.

        ``initial_arrays``: a global adapter, as a result's, or ``get_peft_model_state_dict(model)``
        of PEFT with ``initial_config``, its ``model.peft_config["default"]``; none starts anew.
        With ``resume``, a run's ``state`` or what `read_state` gives of it, that run goes on, up to
        ``num_rounds`` in all. The others are those of Flower's ``Strategy.start``.
        """
        arrays = starting_arrays(initial_arrays, initial_config)
        self._num_rounds, self._rounds_before = num_rounds, 0
        if resume is not None:
            check_resumable(resume, self.architecture, num_rounds=num_rounds)
            self._rounds_before = resume.server_round
        self._timeout_seconds = timeout
        num_nodes = max(self.settings.sampling.min_available_nodes, len(list(grid.get_node_ids())))
        self.devices.check(num_nodes, self.settings.lease_card_bytes)
        check_place(grid, self.settings.simulation)
        with ExitStack() as stack:
            stack.enter_context(flowers_lines(rounds_before=self._rounds_before))
            stack.callback(self._sessions.close_worker)
            stack.enter_context(self._progress.watching(grid))
            self._open_worker(awaits_ray=is_simulated_here(grid))
            self._setup.check_worker(worker := self._sessions.describe(), evaluate_fn)
            if resume is not None:
                self.state, arrays = self._setup.reunited(resume, grid, worker), resume.arrays
            result = super().start(
                grid,
                arrays,
                num_rounds - self._rounds_before,
                timeout,
                train_config,
                evaluate_config,
                evaluate_fn and renumbered(evaluate_fn, self._rounds_before),
            )
            check_end(result, num_rounds - self._rounds_before, self.settings, self._sessions)
            self.personalisation.after(self.state, grid, train_config, timeout_seconds=timeout)
        return renumbered_result(result, self._rounds_before)

    def summary(self) -> None:
        """Log what this strategy was set to."""
        log_summary(self.method, self.settings, self.architecture, self.devices)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask who is new, plan, open sessions, and tell each client its part."""
        if messages := self._configure(server_round, arrays, config, grid, MessageType.TRAIN):
            self._progress.start(self._round, steps_per_client=self.state.steps_per_client)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate what the clients that finished have trained."""
        came = list(replies)
        self._progress.stop(came)
        results = TrainResults.of(self._round.tasks)
        while came:
            results = results.with_replies(came, self._round.tasks, self._taken)
            came = self._sent_again(results)
        reports = self._round.completed(results.reports, self._sessions)
        results = replace(results, reports=reports)
        results = with_comparison(results, self.state.method, self.method, self.settings)
        results.check_cards()
        self._sessions.close_all()
        before = self.state
        self.state = after_training(
            before,
            results,
            method=self.method,
            settings=self.settings,
            takes_reports=self.devices.takes_reports,
        )
        report = self._reporting.training(self._round, results, before, self.state)
        self._log.trained(report.record(), least=self._setup.least(MessageType.TRAIN))
        if self.observer is not None:
            self.observer(report)
        self._reach.check(results, num_nodes=len(list(self._round.grid.get_node_ids())))
        if not report.completed:
            return None, None
        return self.state.arrays, MetricRecord(train_metrics(report))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Open sessions without training, and tell each client its part."""
        return self._configure(server_round, arrays, config, grid, MessageType.EVALUATE)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Loss and perplexity over all clients' tokens: sums travel, the ratio is taken here."""
        results = EvaluateResults.of(self._round.tasks)
        came = list(replies)
        while came:
            results = results.with_replies(came, self._round.tasks)
            came = self._sent_again(results)
        reports = self._round.completed(results.reports, self._sessions)
        results = replace(results, reports=reports)
        total = results.counted(self._setup.least(MessageType.EVALUATE))
        self._sessions.close_all()
        if self.evaluation_observer is not None and self._round.tasks:
            self.evaluation_observer(self._reporting.evaluation(self._round, results, total))
        if not total.num_tokens:
            return None
        num_clients = len(results.reports) - len(results.unfinished)
        return MetricRecord(
            {"loss": total.mean, "perplexity": total.perplexity, "num-clients": num_clients}
        )

    def _configure(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,
        message_type: str,
    ) -> list[Message]:
        """Take over the global adapter, see who is there, and write to those that take part."""
        started_seconds = time.perf_counter()
        # Flower counts the rounds that it has run itself.
        server_round += self._rounds_before
        if arrays is not self.state.arrays:
            method = self._taken_over(arrays)
            self.state = replace(self.state, method=method, arrays=arrays)
        self.state = replace(self.state, server_round=server_round)
        self._sessions.restart_dead()
        begun = self._setup.begin(
            server_round,
            message_type,
            grid,
            self._sessions.describe(),
            started_seconds=started_seconds,
        )
        self._open_round = begun
        begun, self.state = self._setup.with_parts(begun, self.state)
        self._open_round = begun
        messages: list[Message] = []
        if begun.clients:
            self._open_round, messages = self._messages.first(
                begun,
                self.state,
                config,
                num_rounds=self._num_rounds,
                least=self._setup.least(message_type),
                timeout_seconds=self._timeout_seconds,
            )
        return messages

    def _sent_again(self, results: TrainResults | EvaluateResults) -> list[Message]:
        """Replies of those clients who lost their worker, to their message sent once more."""
        self._open_round, messages = self._messages.again(self._round, results)
        if not messages:
            return []
        left_seconds = max(0.0, self._round.deadline_seconds - time.monotonic())
        return list(self._round.grid.send_and_receive(messages, timeout=left_seconds))

    def _taken_over(self, arrays: ArrayRecord) -> MethodState:
        """What is known when a run goes on from these arrays."""
        given = adapter_from(arrays, self.architecture)
        return self.state.method.with_updates(given, self.method, self.settings.aggregation)

    @property
    def _round(self) -> OpenRound:
        assert self._open_round is not None, "Flower configures a round before it aggregates it"
        return self._open_round
