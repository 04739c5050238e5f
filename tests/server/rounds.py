"""A run without messages: devices that are given, plans that are made, and the state in between."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from hsplit_flower.adapters import LowRank
from hsplit_flower.devices.source import DevicesNow
from hsplit_flower.errors import OutOfBudgetError
from hsplit_flower.importance import ImportanceReport
from hsplit_flower.methods import HSPLIT_LORA
from hsplit_flower.methods.advance import learned_importance
from hsplit_flower.planning import Decision
from hsplit_flower.server.client_registry import ClientRegistry
from hsplit_flower.server.round_planner import RoundPlanner
from hsplit_flower.server.state import RunState
from hsplit_flower.settings import Planning, RunSettings, Simulation, Training
from hsplit_flower.simulation.simulated_devices import device_source
from hsplit_flower.splitting import read_architecture
from hsplit_flower.types import ClientInfo, ClientPlan, DeviceProfile, Plan, WorkerDescription
from tests.families import FAMILIES
from tests.strategies.clients import NODES

TRAINING = Training(batch_size=3, sequence_length=9)
# So slow that the cut is low, with memory for every rank; the worker's budget is what binds.
SLOW = DeviceProfile(memory_bytes=1e9, flops_per_second=1e6)
TIGHT = Planning(max_rank=6, worker_session_rank=2)
ROOMY = Planning(max_rank=6, worker_session_rank=0)
WORKER = WorkerDescription(
    model="a tiny llama",
    num_blocks=3,
    lowest_cut=1,
    memory_bytes=4e9,
    flops_per_second=1e10,
    dtype="float32",
    max_sessions=256,
)


def planner_of(*, planning: Planning = TIGHT, training: Training = TRAINING) -> RoundPlanner:
    config = FAMILIES["llama"].config()
    settings = RunSettings(planning=planning, training=training)
    return RoundPlanner(config, read_architecture(config), settings, HSPLIT_LORA)


def clients(count: int = 2, profile: DeviceProfile = SLOW) -> dict[int, ClientInfo]:
    return {
        NODES[i]: ClientInfo(profile=profile, num_examples=5, partition=i, num_partitions=count)
        for i in range(count)
    }


class Rounds:
    """The rounds of a run as its planner sees them; devices are those of a fleet if one is named.

    Attributes
    ----------
    state
        All that crosses a round.
    decision, drift
        Why the last plan is what it is.
    """

    def __init__(
        self,
        *,
        planning: Planning = TIGHT,
        training: Training = TRAINING,
        simulation: Simulation | None = None,
    ) -> None:
        self.planner = planner_of(planning=planning, training=training)
        self.source = device_source(
            simulation or Simulation(),
            whole_model_bytes=self.planner.whole_model_bytes,
            seed=training.seed,
        )
        self.state = RunState.fresh(self.planner.costs.weights)
        self.decision = Decision(replan=False, reason="nothing is planned")
        self.drift = 0.0
        self.meet_worker(WORKER)

    @property
    def standing(self) -> Plan:
        assert self.state.standing is not None
        return self.state.standing.plan

    @property
    def devices(self) -> DevicesNow:
        return self.state.devices

    def meet_worker(self, description: WorkerDescription) -> None:
        self.worker = self.source.worker(self.planner.worker_profile(description))

    def plan(self, there: Mapping[int, ClientInfo], server_round: int = 1) -> Plan:
        """The plan of a round with these clients."""
        devices = self.source.in_round(there, server_round)
        planned = self.planner.plan_round(self.state, devices, self.worker)
        self.decision, self.drift = planned.decision, planned.drift
        self.state = replace(
            self.state,
            server_round=server_round,
            clients=ClientRegistry(known=there),
            devices=devices,
            standing=planned.standing,
            left_out=planned.left_out,
            corrections=planned.corrections,
        )
        return planned.plan

    def parts_for_evaluation(self, nodes: Iterable[int]) -> dict[int, ClientPlan]:
        parts, _ = self.planner.parts_for_evaluation(
            self.state, list(nodes), self.devices, self.worker
        )
        return parts

    def learn(self, favourite: str) -> None:
        """All weights matter alike, but those whose name ends so matter a hundred times more."""
        scores = {
            weight.name: 100.0 if weight.name.endswith(favourite) else 1.0
            for weight in self.planner.costs.weights
        }
        method = self.state.method
        reports = [ImportanceReport(num_examples=5, scores=scores)]
        learned = learned_importance(method.importance, reports)
        self.state = replace(self.state, method=replace(method, importance=learned))

    def grow(self, rank: int) -> None:
        """Let the global update have this rank on every weight."""
        updates = {
            weight.name: LowRank(
                b=torch.zeros(weight.out_features, rank), a=torch.zeros(rank, weight.in_features)
            )
            for weight in self.planner.costs.weights
        }
        method = replace(self.state.method, updates=updates)
        self.state = replace(self.state, method=method)

    def exceed(self, node: int, *, times: float) -> None:
        """Learn that a client needed so many times its prediction."""
        predicted = self.standing.clients[node].memory.total_bytes
        error = OutOfBudgetError(
            predicted_bytes=predicted, measured_bytes=times * predicted, budget_bytes=predicted
        )
        corrections = self.state.corrections.learned(node, error)
        self.state = replace(self.state, corrections=corrections)

    def ranks_above(self, ending: str) -> list[int]:
        """Of the first client's session, block by block."""
        part = self.standing.clients[NODES[0]]
        return [part.ranks[f"model.layers.{block}.{ending}"] for block in range(part.cut, 3)]
