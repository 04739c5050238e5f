"""Setting a round up: who takes part in it, and which part each client has."""

import time
from dataclasses import replace
from typing import final

from flwr.app import MessageType
from flwr.serverapp import Grid

from ..devices.source import DeviceSource
from ..methods import Method
from ..settings import RunSettings
from ..types import WorkerDescription
from .client_selection import ClientSelection
from .evaluation import ServerEvaluation
from .left_out import without_description, without_device, without_part, without_room
from .message_check import check_messages
from .resumption import check_same_base, reunited
from .round import OpenRound
from .round_planner import RoundPlanner
from .run_base import RunBase, check_evaluated, run_base
from .state import RunState


@final
class RoundSetup:
    """From the state of a run and who is there to the parts of a round.

    Parameters
    ----------
    planner
        Of the run's model and method.
    source
        Who has what.
    settings, method
        Of the run: how many take part, which base they must have, and what they send.
    """

    def __init__(
        self,
        planner: RoundPlanner,
        source: DeviceSource,
        settings: RunSettings,
        method: Method,
    ) -> None:
        sampling = settings.sampling
        self._planner = planner
        self._settings = settings
        self._method = method
        self._source = source
        self._sampling = sampling
        self._selection = ClientSelection(
            planner,
            source,
            least_available=sampling.min_available_nodes,
            wait_seconds=sampling.wait_seconds,
            model=settings.model,
            seed=settings.training.seed,
        )

    def base(self, worker: WorkerDescription) -> RunBase:
        """What worker and server have of the model's base.

        Raises
        ------
        ConfigError
            If they have another one each.
        """
        return run_base(
            self._settings.model, worker, quantised=self._planner.costs.workload.quantised
        )

    def check_worker(self, worker: WorkerDescription, evaluate: object) -> None:
        """See that worker and server go together, before clients are asked.

        Parameters
        ----------
        worker
            What it says of itself.
        evaluate
            What evaluates on the server; looked at where it is a class of ours.

        Raises
        ------
        ConfigError
            If they have other bases, or the messages of a step are too large for the worker.
        """
        limit = worker.max_message_bytes
        hidden_size = self._planner.hidden_size
        check_messages(self._settings, self._method, hidden_size, worker_bytes=limit)
        base, model = self.base(worker), self._settings.model
        if isinstance(evaluate, ServerEvaluation):
            quantised = self._planner.costs.workload.quantised
            check_evaluated(evaluate.half, base, model, quantised=quantised)

    def reunited(self, state: RunState, grid: Grid, worker: WorkerDescription) -> RunState:
        """A state that another process left, with the ids that its clients have now.

        Raises
        ------
        ConfigError
            If it was learnt on another base.
        """
        base = self.base(worker)
        check_same_base(state, base.digest, model=self._settings.model.name)
        return reunited(state, self._selection.met(grid, state, base))

    def begin(
        self,
        server_round: int,
        message_type: str,
        grid: Grid,
        worker: WorkerDescription,
        *,
        started_seconds: float,
    ) -> OpenRound:
        """A round in which nobody takes part yet."""
        return OpenRound(
            server_round=server_round,
            message_type=message_type,
            grid=grid,
            started_seconds=started_seconds,
            worker=self._source.worker(self._planner.worker_profile(worker)),
            base=self.base(worker),
        )

    def with_parts(self, begun: OpenRound, state: RunState) -> tuple[OpenRound, RunState]:
        """The round with everybody's part in it, and what is known after everybody was asked.

        Raises
        ------
        InfeasibleBudgetError
            If a run that has no plan yet can have none.
        """
        sampling = self._sampling
        fraction = sampling.fraction_train if begun.trains else sampling.fraction_evaluate
        if fraction == 0.0:
            return begun, state
        chosen = self._selection.select(
            begun.grid,
            state,
            begun.server_round,
            fraction=fraction,
            least=self.least(begun.message_type),
            base=begun.base,
            trains=begun.trains,
        )
        registry = chosen.state.clients
        begun = replace(
            begun,
            clients=chosen.clients,
            devices=chosen.devices,
            names=registry.names,
            left_out={
                **without_description(registry, list(begun.grid.get_node_ids())),
                **without_device(chosen.devices.away),
            },
        )
        if not chosen.clients:
            return begun, chosen.state
        return (self._planned if begun.trains else self._evaluating)(begun, chosen.state)

    def everybody(self, state: RunState, grid: Grid, worker: WorkerDescription) -> OpenRound:
        """What comes after the last round: all that are there and have a part of its plan.

        Nobody is asked anything, and nothing is planned.
        """
        begun = self.begin(
            state.server_round + 1,
            MessageType.TRAIN,
            grid,
            worker,
            started_seconds=time.perf_counter(),
        )
        clients = state.clients.among(grid.get_node_ids())
        devices = self._source.in_round(clients, begun.server_round)
        plans = {} if state.standing is None else state.standing.plan.clients
        parts = {
            node: self._planner.part_of(node, plans[node], state)
            for node in clients
            if node in plans and node in devices.profiles
        }
        names = state.clients.names
        return replace(begun, clients=clients, devices=devices, parts=parts, names=names)

    def least(self, message_type: str) -> int:
        """How many nodes must take part, where any do."""
        is_training = message_type == MessageType.TRAIN
        return self._sampling.least_training if is_training else self._sampling.least_evaluating

    def _planned(self, begun: OpenRound, state: RunState) -> tuple[OpenRound, RunState]:
        everyone = state.clients.among(begun.grid.get_node_ids())
        devices = self._source.in_round(everyone, begun.server_round)
        planned = self._planner.plan_round(
            state, devices, begun.worker, num_sessions=len(begun.clients)
        )
        # Who left while others were asked is in the standing plan still.
        there = begun.clients.keys() & everyone.keys()
        plans = planned.plan.clients
        after = replace(
            state,
            devices=devices,
            standing=planned.standing,
            left_out=planned.left_out,
            corrections=planned.corrections,
            base=begun.base.text,
        )
        parts = {
            node: self._planner.part_of(node, plans[node], state)
            for node in begun.clients
            if node in plans and node in there
        }
        lacking = {**begun.left_out, **without_room(planned.left_out)}
        why = "" if plans else planned.decision.reason
        rest = without_part(begun.clients.keys() - lacking.keys(), parts, why_unplanned=why)
        opened = replace(
            begun,
            devices=devices,
            parts=parts,
            left_out={**lacking, **rest},
            decision=planned.decision,
            drift=planned.drift,
        )
        return opened, after

    def _evaluating(self, begun: OpenRound, state: RunState) -> tuple[OpenRound, RunState]:
        parts, lacking = self._planner.parts_for_evaluation(
            state, begun.clients.keys(), begun.devices, begun.worker
        )
        left_out = {**begun.left_out, **without_room(lacking)}
        return replace(begun, parts=parts, left_out=left_out), state
