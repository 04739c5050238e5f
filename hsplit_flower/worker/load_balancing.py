"""Which of several workers gets which session."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

SessionKey = TypeVar("SessionKey", bound=Hashable)
WorkerKey = TypeVar("WorkerKey", bound=Hashable)


def balanced(
    loads: Mapping[SessionKey, float], workers: Sequence[WorkerKey]
) -> dict[SessionKey, WorkerKey]:
    """The worker of every session, such that none has much more to do than the others.

    The heaviest session first, each to the worker that has the least so far (longest processing
    time first; Graham, 1969). The largest load is then at most ``4/3 - 1/(3 m)`` times the least
    that is possible for ``m`` workers. Workers with equal loads are kept to equal numbers, and
    where these are equal too, the first one is taken.

    Parameters
    ----------
    loads
        What a step of each session takes of a worker, zero or more, in any unit.
    workers
        One or more, all of one speed.
    """
    load = dict.fromkeys(workers, 0.0)
    count = dict.fromkeys(workers, 0)
    places: dict[SessionKey, WorkerKey] = {}
    for session in sorted(loads, key=lambda session: -loads[session]):
        chosen = min(workers, key=lambda worker: (load[worker], count[worker]))
        places[session] = chosen
        load[chosen] += loads[session]
        count[chosen] += 1
    return places
