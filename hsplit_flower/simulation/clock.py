"""How long a round would have taken on the fleet's own devices, whatever machine it ran on.

Each client computes, sends and receives on its own; the worker serves one step at a time, in the
order in which steps arrive. What does not depend on the step is left out: loading the half, the
message with the adapter.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..costs import PartSeconds


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


def simulate_round(steps: Mapping[int, Sequence[PartSeconds]]) -> RoundClock:
    """Let the clients' steps run against one worker that serves who comes first.

    Parameters
    ----------
    steps
        What each step takes, by client; a client takes its steps one after the other.
    """
    # A client's next step arrives after its own compute and link; half of either is after the
    # reply of the one before, which makes no difference to when the next one comes.
    arrivals = [(_own_seconds(own[0]), client) for client, own in steps.items() if own]
    heapq.heapify(arrivals)
    done = dict.fromkeys(steps, 0)
    worker_free, seconds = 0.0, 0.0
    while arrivals:
        arrived, client = heapq.heappop(arrivals)
        worker_free = max(worker_free, arrived) + steps[client][done[client]].worker_seconds
        seconds = max(seconds, worker_free)
        done[client] += 1
        if done[client] < len(steps[client]):
            again = worker_free + _own_seconds(steps[client][done[client]])
            heapq.heappush(arrivals, (again, client))
    return RoundClock(
        seconds=seconds,
        clients={client: _client_clock(own, seconds) for client, own in steps.items()},
    )


def _own_seconds(step: PartSeconds) -> float:
    return step.compute_seconds + step.link_seconds


def _client_clock(steps: Sequence[PartSeconds], seconds: float) -> ClientClock:
    compute = sum(step.compute_seconds for step in steps)
    link = sum(step.link_seconds for step in steps)
    worker = sum(step.worker_seconds for step in steps)
    return ClientClock(
        compute_seconds=compute,
        link_seconds=link,
        worker_seconds=worker,
        waiting_seconds=max(0.0, seconds - compute - link - worker),
    )
