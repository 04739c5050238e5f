"""How long a round would have taken on the fleet's own devices, whatever machine it ran on.

Each client computes, sends and receives on its own; the worker serves one step at a time, in the
order in which steps arrive. What does not depend on the step is left out: loading the half, the
message with the adapter.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class StepLoad:
    """What one step of a client takes: its own compute, its link, and the worker's."""

    compute_seconds: float
    link_seconds: float
    worker_seconds: float


@dataclass(frozen=True, kw_only=True)
class ClientClock:
    """Where a client's round goes: its parts add up to the round's seconds.

    ``waiting_seconds`` is spent in the worker's queue, and at the end until the last one is done.
    """

    compute_seconds: float
    link_seconds: float
    worker_seconds: float
    waiting_seconds: float


@dataclass(frozen=True, kw_only=True)
class RoundClock:
    """Seconds of a round on the fleet, and where every client's go."""

    seconds: float = 0.0
    clients: Mapping[int, ClientClock] = field(default_factory=dict)


def simulate_round(loads: Mapping[int, StepLoad], num_steps: Mapping[int, int]) -> RoundClock:
    """Let the clients' steps run against one worker that serves who comes first.

    Parameters
    ----------
    loads
        Of a step, by client.
    num_steps
        How many steps each client takes, one after the other.
    """
    # A client's next step arrives after its own compute and link; half of either is after the
    # reply of the one before, which makes no difference to when the next one comes.
    arrivals = [
        (load.compute_seconds + load.link_seconds, client)
        for client, load in loads.items()
        if num_steps[client]
    ]
    heapq.heapify(arrivals)
    left = dict(num_steps)
    worker_free, seconds = 0.0, 0.0
    while arrivals:
        arrived, client = heapq.heappop(arrivals)
        load = loads[client]
        worker_free = max(worker_free, arrived) + load.worker_seconds
        seconds = max(seconds, worker_free)
        left[client] -= 1
        if left[client]:
            again = worker_free + load.compute_seconds + load.link_seconds
            heapq.heappush(arrivals, (again, client))
    return RoundClock(
        seconds=seconds,
        clients={
            client: _client_clock(load, num_steps[client], seconds)
            for client, load in loads.items()
        },
    )


def _client_clock(load: StepLoad, num_steps: int, seconds: float) -> ClientClock:
    busy = load.compute_seconds + load.link_seconds + load.worker_seconds
    return ClientClock(
        compute_seconds=num_steps * load.compute_seconds,
        link_seconds=num_steps * load.link_seconds,
        worker_seconds=num_steps * load.worker_seconds,
        waiting_seconds=max(0.0, seconds - num_steps * busy),
    )
