"""What a plan comes to over a run: seconds and bytes of its first round, its last, and all."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..costs import ModelCosts, PartSeconds, latency_seconds, part_seconds, pipelined, wire_bytes
from ..costs.global_update import NO_UPDATE, arriving_bytes
from ..costs.model_costs import FLOAT32_BYTES
from ..planning import plan, shortfalls
from ..settings import Aggregation, PlanSettings
from ..simulation.clock import simulate_round
from ..types import AdapterType, ClientPlan, DeviceProfile, Plan

ADAPTER_BYTES = {AdapterType.FLOAT32: FLOAT32_BYTES, AdapterType.FLOAT16: 2}


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes that one client sends and receives in a round of training.

    Through the worker's channel go hidden states and gradients, through Flower's the adapters.
    Messages' envelopes, and what evaluation takes, are not counted.
    """

    worker_up_bytes: float
    worker_down_bytes: float
    flower_up_bytes: float
    flower_down_bytes: float

    @property
    def up_bytes(self) -> float:
        """All that the client sends."""
        return self.worker_up_bytes + self.flower_up_bytes

    @property
    def down_bytes(self) -> float:
        """All that the client receives."""
        return self.worker_down_bytes + self.flower_down_bytes


@dataclass(frozen=True, kw_only=True)
class RoundOutlook:
    """One round by a plan.

    Attributes
    ----------
    plan, update_ranks
        Of this round, and of the global adapter that it begins with.
    seconds
        Of its training: the slowest client's adapter comes and goes before and after the steps.
    traffic
        By client.
    """

    plan: Plan
    update_ranks: Mapping[str, int]
    seconds: float
    traffic: Mapping[int, Traffic]

    @property
    def total_bytes(self) -> float:
        """What all clients send and receive."""
        return sum(each.up_bytes + each.down_bytes for each in self.traffic.values())


@dataclass(frozen=True, kw_only=True)
class RunOutlook:
    """All rounds: the first, and others that are as the last one is.

    The global adapter is as large as it gets after few rounds, so that the sums are hardly above
    what those rounds take in which it grows.
    """

    first: RoundOutlook
    last: RoundOutlook
    num_rounds: int
    num_steps: int

    @property
    def seconds(self) -> float:
        """Of training in all rounds."""
        return self.first.seconds + (self.num_rounds - 1) * self.last.seconds

    @property
    def total_bytes(self) -> float:
        """What all clients send and receive in all rounds."""
        return self.first.total_bytes + (self.num_rounds - 1) * self.last.total_bytes


@dataclass(frozen=True, kw_only=True)
class Outlooks:
    """Looks ahead in runs of one fleet.

    Parameters
    ----------
    costs, settings
        Of the model and its plans.
    aggregation
        How large the global adapter may become, and of which type it is.
    profiles, worker
        The devices, by client, and the split worker.
    num_rounds, num_steps
        Of the run, and of each client in a round.
    num_parts, in_flight
        Micro-batches of a step, and how many of them are under way at a time.
    """

    costs: ModelCosts
    settings: PlanSettings
    aggregation: Aggregation
    profiles: Mapping[int, DeviceProfile]
    worker: DeviceProfile
    num_rounds: int
    num_steps: int
    num_parts: int = 1
    in_flight: int = 1

    def run(self) -> RunOutlook:
        """Of a run whose plans know nothing of importance.

        Raises
        ------
        InfeasibleBudgetError
            If there is no plan for the first round, or the worker does not hold its half by the
            last one. Where no client can take part any more, the last one is nobody's.
        """
        first = self.round(NO_UPDATE)
        last = self.round(self.last_ranks(first.plan)) if self.num_rounds > 1 else first
        return RunOutlook(
            first=first, last=last, num_rounds=self.num_rounds, num_steps=self.num_steps
        )

    def round(self, update_ranks: Mapping[str, int]) -> RoundOutlook:
        """Of a round that begins with a global adapter of these ranks."""
        made = self._plan(update_ranks)
        traffic = {
            client: self.traffic(part, update_ranks) for client, part in made.clients.items()
        }
        return RoundOutlook(
            plan=made,
            update_ranks=update_ranks,
            seconds=self._seconds(made, traffic, update_ranks),
            traffic=traffic,
        )

    def last_ranks(self, first: Plan) -> dict[str, int]:
        """Ranks of the global adapter before the last round, at most.

        A round adds as many directions as its clients train; a bounded adapter has room for
        ``mean_rank`` on every weight, which is where its bytes go if no weight matters more.
        """
        rounds_before = self.num_rounds - 1
        bound = self.aggregation.mean_rank if self.aggregation.is_bounded else None
        ranks = {}
        for weight in self.costs.target_weights(self.settings.target_modules):
            added = sum(part.ranks.get(weight.name, 0) for part in first.clients.values())
            possible = min(weight.in_features, weight.out_features, rounds_before * added)
            ranks[weight.name] = possible if bound is None else min(possible, bound)
        return ranks

    def traffic(self, part: ClientPlan, update_ranks: Mapping[str, int]) -> Traffic:
        """What a client of this part sends and receives in a round."""
        sent = wire_bytes(self.costs, self.settings.labels)
        is_rounded = self.aggregation.is_bounded
        global_type = self.aggregation.adapter_dtype if is_rounded else AdapterType.FLOAT32
        return Traffic(
            worker_up_bytes=self.num_steps * sent.up_bytes,
            worker_down_bytes=self.num_steps * sent.down_bytes,
            flower_up_bytes=arriving_bytes(self.costs, part.cut, part.ranks),
            flower_down_bytes=ADAPTER_BYTES[global_type]
            / FLOAT32_BYTES
            * arriving_bytes(self.costs, part.cut, update_ranks),
        )

    def _plan(self, update_ranks: Mapping[str, int]) -> Plan:
        if update_ranks:
            short = shortfalls(
                self.costs, self.profiles, settings=self.settings, update_ranks=update_ranks
            )
            if len(short) == len(self.profiles):
                return Plan(clients={}, left_out=short, step_seconds=0.0)
        return plan(
            self.costs,
            self.profiles,
            self.worker,
            settings=self.settings,
            update_ranks=update_ranks,
        )

    def _seconds(
        self, made: Plan, traffic: Mapping[int, Traffic], update_ranks: Mapping[str, int]
    ) -> float:
        steps, adapters_seconds = {}, [0.0]
        for client, part in made.clients.items():
            profile = self.profiles[client]
            first, other = self._steps(part, profile, update_ranks)
            steps[client] = [first, *[other] * (self.num_steps - 1)]
            adapters_seconds.append(
                traffic[client].flower_down_bytes / profile.down_bytes_per_second
                + traffic[client].flower_up_bytes / profile.up_bytes_per_second
            )
        return simulate_round(steps).seconds + max(adapters_seconds)

    def _steps(
        self, part: ClientPlan, profile: DeviceProfile, update_ranks: Mapping[str, int]
    ) -> tuple[PartSeconds, PartSeconds]:
        """The first step of a round, which scores importance and is sent whole, and any other."""
        first, other = (
            part_seconds(
                self.costs,
                part,
                profile=profile,
                worker=self.worker,
                settings=self.settings,
                update_ranks=update_ranks,
                scores=scores,
            )
            for scores in (True, False)
        )
        return first, pipelined(
            other,
            num_parts=self.num_parts,
            in_flight=self.in_flight,
            latency_seconds=latency_seconds(
                self.costs, profile=profile, labels=self.settings.labels
            ),
        )
