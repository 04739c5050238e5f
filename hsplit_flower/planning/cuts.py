"""Which cut each client gets: the first half of adaptive rank and split configuration (ARMSC).

Only numbers come in here: what every cut would cost in seconds and bytes.
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import InfeasibleBudgetError
from ..sizes import size_text


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """What the cuts of one client would cost.

    Attributes
    ----------
    seconds
        ``T_i(s)`` for ``s`` from 0 to all blocks; must not decrease.
    deepest
        Largest cut that the client's memory holds.
    roomy
        Largest cut that leaves memory for the highest rank on every weight; the smallest cut where
        none does.
    """

    seconds: Sequence[float]
    deepest: int
    roomy: int


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What a client's cut would cost the worker.

    Attributes
    ----------
    seconds
        ``S(s)``, the worker's compute for a client cut at ``s``; must not increase.
    base_bytes
        Its half of the model where the smallest cut is ``s``; must not increase.
    session_bytes
        One client's session at ``s``; must not increase.
    budget_bytes
        All that the worker has.
    round_share
        What share of the clients takes part in a round.
    """

    seconds: Sequence[float]
    base_bytes: Sequence[float]
    session_bytes: Sequence[float]
    budget_bytes: float
    round_share: float = 1.0

    def load_seconds(self, cuts: Iterable[int]) -> float:
        """``Σ_i S(s_i)`` over a round's clients, in the mean of rounds: sessions take turns."""
        return self.round_share * sum(self.seconds[cut] for cut in cuts)

    def needed_bytes(self, cuts: Iterable[int]) -> float:
        """The base above the smallest cut, and a round's sessions, in the mean of rounds."""
        held = list(cuts)
        sessions = self.round_share * sum(self.session_bytes[cut] for cut in held)
        return self.base_bytes[min(held)] + sessions


def makespan(
    cuts: Mapping[int, int], clients: Mapping[int, ClientOptions], worker: WorkerOptions
) -> float:
    """Seconds of one step of all: ``max( max_i T_i(s_i), Σ_i S(s_i) )``."""
    slowest = max(clients[client].seconds[cut] for client, cut in cuts.items())
    return max(slowest, worker.load_seconds(cuts.values()))


def choose_cuts(
    clients: Mapping[int, ClientOptions],
    worker: WorkerOptions,
    *,
    min_cut: int = 1,
    slack: float = 0.0,
) -> dict[int, int]:
    """The cuts with the smallest makespan among those that fit everybody's memory.

    For a trial value ``t`` every client takes the largest cut it holds within ``t``; that is the
    least the worker can be left with. The smaller of ``max(t, load(t))`` on either side of where
    load falls below ``t`` is the optimum, because ``t`` only rises and ``load(t)`` only falls, and
    only the finitely many ``T_i(s)`` need to be tried: the bisection is exact.

    Among makespans that are equal, or at most a share of ``slack`` above the optimum, the deepest
    cuts win whose adapters still have room for the highest rank: they leave the worker the least to
    do and show it the least of the text; a cut so deep that it starves its own adapters is taken
    back as long as the worker keeps up.

    Raises
    ------
    InfeasibleBudgetError
        If the worker's memory does not hold its half even with every client at its deepest.
    """
    if not clients:
        return {}
    fastest = max(options.seconds[min_cut] for options in clients.values())
    trials = sorted(
        {
            seconds
            for options in clients.values()
            for seconds in options.seconds[min_cut : options.deepest + 1]
            if seconds >= fastest
        }
    )
    best = min(
        _candidates(trials, clients, worker, min_cut), key=lambda c: makespan(c, clients, worker)
    )
    limit = makespan(best, clients, worker) * (1.0 + slack)
    deepest = _deepest_within(limit, clients, min_cut)
    return _with_room(deepest, clients, worker, min_cut, limit)


def choose_one_cut(
    clients: Mapping[int, ClientOptions],
    worker: WorkerOptions,
    *,
    min_cut: int = 1,
    slack: float = 0.0,
) -> dict[int, int]:
    """The cut with the smallest makespan among those that every client and the worker can hold.

    As in `choose_cuts`, the deepest one wins among those at most a share of ``slack`` above the
    optimum, and before it the deepest that leaves room for the highest rank.

    Raises
    ------
    InfeasibleBudgetError
        If the worker's memory does not hold its half with any of them.
    """
    if not clients:
        return {}
    deepest = min(options.deepest for options in clients.values())
    same = [dict.fromkeys(clients, cut) for cut in range(min_cut, deepest + 1)]
    fitting = [c for c in same if worker.needed_bytes(c.values()) <= worker.budget_bytes]
    if not fitting:
        raise _worker_lacks(same, worker, len(clients))
    spans = [makespan(cuts, clients, worker) for cuts in fitting]
    limit = min(spans) * (1.0 + slack)
    within = [cuts for cuts, span in zip(fitting, spans, strict=True) if span <= limit]
    roomy = min(options.roomy for options in clients.values())
    return next((c for c in reversed(within) if min(c.values()) <= roomy), within[-1])


def _deepest_within(
    seconds: float, clients: Mapping[int, ClientOptions], min_cut: int
) -> dict[int, int]:
    return {
        client: bisect_right(options.seconds, seconds, min_cut, options.deepest + 1) - 1
        for client, options in clients.items()
    }


def _candidates(
    trials: Sequence[float],
    clients: Mapping[int, ClientOptions],
    worker: WorkerOptions,
    min_cut: int,
) -> list[dict[int, int]]:
    """The cuts on both sides of where the worker starts to keep up; one of them is optimal."""
    low, high = 0, len(trials) - 1
    while low < high:
        middle = (low + high) // 2
        cuts = _deepest_within(trials[middle], clients, min_cut)
        keeps_up = worker.load_seconds(cuts.values()) <= trials[middle]
        if keeps_up and worker.needed_bytes(cuts.values()) <= worker.budget_bytes:
            high = middle
        else:
            low = middle + 1
    found = [_deepest_within(trials[index], clients, min_cut) for index in {max(0, low - 1), low}]
    fitting = [c for c in found if worker.needed_bytes(c.values()) <= worker.budget_bytes]
    if not fitting:
        raise _worker_lacks(found, worker, len(clients))
    return fitting


def _worker_lacks(
    tried: Sequence[Mapping[int, int]], worker: WorkerOptions, num_clients: int
) -> InfeasibleBudgetError:
    needed = min(worker.needed_bytes(cuts.values()) for cuts in tried)
    return InfeasibleBudgetError(
        f"the split worker has {size_text(worker.budget_bytes)} and needs {size_text(needed)} "
        f"for {num_clients} clients at their deepest cuts, it lacks "
        f"{size_text(needed - worker.budget_bytes)}: give it more memory, "
        "fewer clients a round, or its sessions less"
    )


def _with_room(
    cuts: Mapping[int, int],
    clients: Mapping[int, ClientOptions],
    worker: WorkerOptions,
    min_cut: int,
    limit: float,
) -> dict[int, int]:
    """Shallower cuts where adapters lack room, the most cramped client first, within the limit."""
    chosen = dict(cuts)
    load = worker.load_seconds(cuts.values())
    sessions = worker.round_share * sum(worker.session_bytes[cut] for cut in cuts.values())
    lowest = min(cuts.values())
    cramped = [(clients[c].roomy - cut, c) for c, cut in cuts.items() if cut > clients[c].roomy]
    heapq.heapify(cramped)
    while cramped:
        lacking, client = heapq.heappop(cramped)
        cut = chosen[client] - 1
        more_seconds = worker.seconds[cut] - worker.seconds[cut + 1]
        more_bytes = worker.session_bytes[cut] - worker.session_bytes[cut + 1]
        new_load = load + worker.round_share * more_seconds
        new_sessions = sessions + worker.round_share * more_bytes
        new_lowest = min(lowest, cut)
        needed = worker.base_bytes[new_lowest] + new_sessions
        if cut < min_cut or new_load > limit or needed > worker.budget_bytes:
            continue
        chosen[client] = cut
        load, sessions, lowest = new_load, new_sessions, new_lowest
        if lacking + 1 < 0:
            heapq.heappush(cramped, (lacking + 1, client))
    return chosen
