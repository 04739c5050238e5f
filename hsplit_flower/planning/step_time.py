"""Where the seconds of one planned step go, and what holds the step up."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ..costs.model_costs import ModelCosts
from ..costs.seconds import link_seconds
from ..types import DeviceProfile, Labels, Plan


class Bottleneck(str, Enum):
    """What takes the longest in a step."""

    COMPUTE = "client compute"
    LINK = "link"
    WORKER = "worker"


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """One client's step.

    Attributes
    ----------
    compute_seconds, link_seconds
        Its own blocks, and what it sends and receives.
    worker_seconds
        The worker's part of this client's step.
    load_seconds
        The worker's part of all clients' steps, which take turns.
    waiting_seconds
        Until the step of all clients is over.
    """

    compute_seconds: float
    link_seconds: float
    worker_seconds: float
    load_seconds: float
    waiting_seconds: float

    @property
    def bottleneck(self) -> Bottleneck:
        """What this client's step takes the longest for."""
        return max(
            (self.compute_seconds, Bottleneck.COMPUTE),
            (self.link_seconds, Bottleneck.LINK),
            (self.load_seconds, Bottleneck.WORKER),
            key=lambda pair: pair[0],
        )[1]


def step_times(
    plan: Plan, costs: ModelCosts, profiles: Mapping[int, DeviceProfile], *, labels: Labels
) -> dict[int, StepTime]:
    """The step of every client that takes part."""
    load = sum(part.worker_seconds for part in plan.clients.values())
    times = {}
    for client, part in plan.clients.items():
        link = link_seconds(costs, profile=profiles[client], labels=labels)
        times[client] = StepTime(
            compute_seconds=part.client_seconds - link,
            link_seconds=link,
            worker_seconds=part.worker_seconds,
            load_seconds=load,
            waiting_seconds=plan.step_seconds - part.client_seconds,
        )
    return times


def bottleneck(times: Mapping[int, StepTime]) -> Bottleneck:
    """What holds up the step of all: the worker, or what the slowest client takes the longest for.

    ``max( max_i T_i, Σ_i S_i )`` is the step; whichever of the two is the maximum is at fault.
    """
    slowest = max(times.values(), key=lambda time: time.compute_seconds + time.link_seconds)
    if slowest.load_seconds >= slowest.compute_seconds + slowest.link_seconds:
        return Bottleneck.WORKER
    is_compute = slowest.compute_seconds >= slowest.link_seconds
    return Bottleneck.COMPUTE if is_compute else Bottleneck.LINK
