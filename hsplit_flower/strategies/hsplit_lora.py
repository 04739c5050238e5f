"""HSplitLoRA as a Flower strategy: messages in, core called, messages out.

Lin et al., HSplitLoRA, arXiv 2505.02795. Each client trains adapters on the blocks below its own
cut, its session on the split worker those above; ARMSC chooses cuts and ranks from device profiles
and importance, NAA aggregates exactly.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from logging import INFO, WARNING
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from ..aggregation import Dividing
from ..errors import ConfigError
from ..importance import ImportanceReport
from ..metrics import TokenLoss
from ..planning import ReplanSettings
from ..server.client_selection import ClientSelection
from ..server.collection import Gatherer, Task
from ..server.dispatch import Dispatch, PendingMessage
from ..server.global_adapter import GlobalAdapter
from ..server.instructions import instructions_for
from ..server.preflight import check_cards, is_simulated_here
from ..server.progress import Progress
from ..server.replies import TrainReply
from ..server.round_planner import RoundPlanner
from ..server.round_report import ClientReport, RoundReport
from ..server.worker_sessions import WorkerSessions
from ..settings import PlanSettings
from ..settings.training import Training
from ..simulation.disturbances import Disturbances
from ..simulation.simulated_devices import check_fleet
from ..splitting import read_architecture
from ..splitting.checkpoint import Checkpoint
from ..types import ClientInfo, ClientPlan
from ..worker.hosting import WorkerHandle, WorkerSettings
from ..worker.pool import PoolSettings

Observer = Callable[[RoundReport], None]


class HSplitLoRA(Strategy):
    """Fine-tune one language model across unequal clients, none of which holds it whole.

    Parameters
    ----------
    model
        ``llama-tiny`` (built in), a local folder or a hub id; clients load their half by the same
        name, unless their node config has a ``model`` of its own.
    training
        How clients train.
    planning, replanning
        What ARMSC may choose, and how readily it chooses anew.
    fleet
        What simulated clients have (see :func:`hsplit_flower.devices.fleet_devices`); None takes
        what each client says of itself.
    disturbances
        What happens to a simulated fleet's devices: away in some rounds, more or less memory.
    enforce_budgets
        Whether a client that takes more than its memory is stopped, and planned lower.
    lease_card_bytes
        What clients share of each card's memory, in a simulation in which each leases its part
        from Ray; what is over must suffice for who else is on the card. None for no leases.
    worker_session_rank
        What a client's adapters may take on the worker, as the rank that it would give to every
        weight; None shares the worker's memory.
    worker
        Where the split worker, or a pool of them, is started; or one that runs already.
    global_rank_cap
        Largest rank of the global adapter, None for none; what it cuts off is kept for later
        rounds.
    dividing
        Over whom a weight's mean is taken when not every client adapts it.
    server_momentum
        How much of the round before each round also goes (FedAvgM), in [0, 1); 0 for none.
    observer
        Is called with a report after every round of training.
    fraction_train, fraction_evaluate
        Share of the connected nodes that train, and that evaluate, in a round.
    min_train_nodes, min_evaluate_nodes, min_available_nodes
        Fewest nodes that are sampled and must finish, and that must be connected.
    arrayrecord_key, configrecord_key
        Keys of the adapter and of the user's own config in messages to clients.
    """

    def __init__(
        self,
        model: str,
        training: Training,
        *,
        planning: PlanSettings | None = None,
        replanning: ReplanSettings | None = None,
        fleet: str | None = None,
        disturbances: Disturbances | None = None,
        enforce_budgets: bool = True,
        lease_card_bytes: float | None = None,
        worker_session_rank: int | None = None,
        worker: WorkerHandle | WorkerSettings | PoolSettings | None = None,
        global_rank_cap: int | None = None,
        dividing: Dividing = Dividing.ALL,
        server_momentum: float = 0.0,
        observer: Observer | None = None,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        arrayrecord_key: str = "arrays",
        configrecord_key: str = "config",
    ) -> None:
        config = Checkpoint(source=model, revision=training.revision or None).config()
        self.model = model
        self.training = training
        self.architecture = read_architecture(config)
        self.fleet = fleet
        self.enforce_budgets = enforce_budgets
        self.lease_card_bytes = lease_card_bytes
        self.observer = observer
        self.fraction_train = _fraction("fraction_train", fraction_train)
        self.fraction_evaluate = _fraction("fraction_evaluate", fraction_evaluate)
        self.min_train_nodes = min_train_nodes if fraction_train else 0
        self.min_evaluate_nodes = min_evaluate_nodes if fraction_evaluate else 0
        self.min_available_nodes = min_available_nodes
        self.arrayrecord_key = arrayrecord_key
        self.configrecord_key = configrecord_key
        self.planner = RoundPlanner(
            config,
            self.architecture,
            training,
            planning or PlanSettings(),
            replanning,
            fleet,
            worker_session_rank,
            disturbances,
        )
        self.adapter = GlobalAdapter(
            self.architecture,
            start=training.start,
            rank_cap=global_rank_cap,
            dividing=dividing,
            momentum=server_momentum,
        )
        self._sessions = WorkerSessions(model, worker)
        self._dispatch = Dispatch(self._sessions)
        self._gatherer = Gatherer(self.architecture, self.adapter, self._sessions, self._dispatch)
        self._turnout = ClientSelection(self.planner, min_available_nodes, training.dtype)
        self._progress = Progress(self._sessions.steps)
        self._steps_per_client = 0
        self._tasks: dict[int, Task] = {}
        self._round_started = 0.0
        self._timeout_seconds = 3600.0

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the rounds; the split worker is started before and stopped after, if it is ours.

        ``initial_arrays`` is a global adapter under PEFT's keys; left out, training starts from
        nothing. The other parameters are those of Flower's ``Strategy.start``.
        """
        self._timeout_seconds = timeout
        num_clients = max(self.min_available_nodes, len(list(grid.get_node_ids())))
        check_fleet(self.planner.fleet, num_clients, self.lease_card_bytes)
        check_cards(grid, self.lease_card_bytes)
        with ExitStack() as stack:
            stack.callback(self._sessions.close_worker)
            stack.callback(self._progress.stop)
            description = self._sessions.open_worker(
                self.training,
                lowest_cut=self.planner.settings.min_cut,
                num_blocks=self.architecture.num_blocks,
                awaits_ray=is_simulated_here(grid),
            )
            self.planner.meet_worker(description)
            return super().start(
                grid,
                initial_arrays if initial_arrays is not None else ArrayRecord(),
                num_rounds,
                timeout,
                train_config,
                evaluate_config,
                evaluate_fn,
            )

    def summary(self) -> None:
        """Log what this strategy was set to."""
        training, limits = self.training, self.planner.settings
        lines = (
            f"Model: {self.model}, {self.architecture.model_type} of "
            f"{self.architecture.num_blocks} blocks, {len(self.architecture.weights)} weights",
            f"Training: AdamW {training.learning_rate:g}, "
            f"alpha {training.lora_alpha:g} ({training.scale_rule.value}), "
            f"{training.start.value}, labels on the {training.labels.value}",
            f"Planning: cut from {limits.min_cut}, ranks to {limits.max_rank}, "
            f"fleet {self.fleet or 'as the devices say'}",
            f"Sampling: train {self.fraction_train:.2f} (at least {self.min_train_nodes}), "
            f"evaluate {self.fraction_evaluate:.2f} (at least {self.min_evaluate_nodes}), "
            f"{self.min_available_nodes} available",
            f"Keys: arrays '{self.arrayrecord_key}', config '{self.configrecord_key}'",
        )
        for line in lines[:-1]:
            log(INFO, "\t├──> %s", line)
        log(INFO, "\t└──> %s", lines[-1])

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask who is new, plan, open sessions, and tell each client its part."""
        self._round_started = time.perf_counter()
        self._begin(arrays)
        if self.fraction_train == 0.0:
            return []
        members = self._turnout.members(
            grid, server_round, fraction=self.fraction_train, least=self.min_train_nodes, anew=True
        )
        if not members:
            return []
        everyone = self._turnout.everyone(grid)
        plan = self.planner.plan_round(
            everyone, self.adapter.ranks, server_round, num_sessions=len(members)
        )
        # Who left while others were asked is in the standing plan still.
        there = members.keys() & everyone.keys() & plan.clients.keys()
        parts = {node: plan.clients[node] for node in members if node in there}
        messages = self._messages(server_round, parts, members, config, MessageType.TRAIN, grid)
        if messages:
            self._progress.start(server_round, expected_steps=self._steps_per_client * len(parts))
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate exactly what the clients that finished have trained, both halves."""
        self._progress.stop()
        gathered = self._gatherer.gather(replies, self._tasks)
        finished = gathered.finished
        self._sessions.close_all()
        for node, error in gathered.exceeded.items():
            self.planner.correct(node, error)
        self.planner.confirm(gathered.reports)
        self._turnout.hear(gathered)
        completed = bool(finished) and len(finished) >= self.min_train_nodes
        if completed:
            self._learn(finished)
        else:
            log(
                WARNING,
                "aggregate_train: %s clients finished, %s are wanted; the global adapter stays",
                len(finished),
                self.min_train_nodes,
            )
        report = self._report(server_round, gathered.reports, completed=completed)
        if self.observer is not None:
            self.observer(report)
        if not completed:
            return None, None
        losses = sum((client.loss for client in finished.values()), TokenLoss())
        metrics: dict[str, Any] = {
            "train-loss": losses.mean,
            "num-clients": len(finished),
            "seconds": report.seconds,
            "simulated-seconds": report.simulated.seconds,
        }
        return self.adapter.arrays(), MetricRecord(metrics)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Open sessions without training, and tell each client its part."""
        self._begin(arrays)
        if self.fraction_evaluate == 0.0:
            return []
        members = self._turnout.members(
            grid, server_round, fraction=self.fraction_evaluate, least=self.min_evaluate_nodes
        )
        parts = self.planner.parts_for_evaluation(members)
        return self._messages(server_round, parts, members, config, MessageType.EVALUATE, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Loss and perplexity over all clients' tokens: sums travel, the ratio is taken here."""
        losses = self._gatherer.gather_losses(replies, self._tasks, least=self.min_evaluate_nodes)
        self._sessions.close_all()
        total = sum(losses.values(), TokenLoss())
        if not total.num_tokens:
            return None
        return MetricRecord(
            {"loss": total.mean, "perplexity": total.perplexity, "num-clients": len(losses)}
        )

    def _begin(self, arrays: ArrayRecord) -> None:
        """Take over the global adapter, and see which workers there are."""
        self.adapter.adopt(arrays)
        self.planner.begin(self.adapter.ranks)
        self._tasks = {}
        if (workers := self._sessions.restart_dead()) is not None:
            self.planner.meet_worker(workers)

    def _messages(
        self,
        server_round: int,
        parts: Mapping[int, ClientPlan],
        members: Mapping[int, ClientInfo],
        config: ConfigRecord,
        message_type: str,
        grid: Grid,
    ) -> list[Message]:
        """Open a session for each client and write down its part; none where too few can do it."""
        trains = message_type == MessageType.TRAIN
        least = max(1, self.min_train_nodes if trains else self.min_evaluate_nodes)
        if len(parts) < least:
            told = len(parts), least, "training" if trains else "evaluation"
            log(WARNING, "%s clients can take part, %s are wanted: %s is left out", *told)
            return []
        budgets = {node: self.planner.devices[node].memory_bytes for node in parts}
        self._tasks = {
            node: Task(plan=part, member=members[node], budget_bytes=budgets[node])
            for node, part in parts.items()
        }
        self._sessions.load_update(self.adapter.updates)
        user_config = ConfigRecord({**config, "server-round": server_round})
        orders = instructions_for(
            self.training,
            parts,
            members,
            model=self.model,
            server_round=server_round,
            train=trains,
            budgets_bytes=budgets,
            enforce_budgets=self.enforce_budgets,
            lease_card_bytes=self.lease_card_bytes,
        )
        pending = {
            node: PendingMessage(
                order=told,
                load=parts[node].worker_seconds,
                arrays=(self.arrayrecord_key, self.adapter.below(parts[node].span)),
                config=(self.configrecord_key, user_config),
            )
            for node, told in orders.items()
        }
        return self._dispatch.messages(
            pending, message_type, grid=grid, timeout_seconds=self._timeout_seconds
        )

    def _learn(self, finished: Mapping[int, TrainReply]) -> None:
        self._steps_per_client = max(client.num_steps for client in finished.values())
        examples = {node: self._tasks[node].member.num_examples for node in finished}
        updates = {node: client.updates for node, client in finished.items()}
        self.adapter.aggregate(updates, examples)
        self.planner.learn(
            [
                ImportanceReport(num_examples=examples[node], scores=client.importance)
                for node, client in finished.items()
            ]
        )

    def _report(
        self, server_round: int, clients: Mapping[int, ClientReport], *, completed: bool
    ) -> RoundReport:
        return RoundReport(
            server_round=server_round,
            clients=clients,
            replanned=self.planner.decision.replan,
            planning_reason=self.planner.decision.reason,
            drift=self.planner.drift,
            seconds=time.perf_counter() - self._round_started,
            completed=completed,
            largest_rank=max(self.adapter.ranks.values(), default=0),
            dropped_energy=self.adapter.dropped_energy,
            away=tuple(sorted(self.planner.away)),
            moved=tuple(sorted(self._dispatch.moved & clients.keys())),
            simulated=self.planner.simulated(clients),
        )


def _fraction(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name} must be a fraction from 0 to 1, got {value}")
    return value
