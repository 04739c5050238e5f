"""What the curves come to: perplexity, rounds and simulated seconds to what all reach, bytes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.study.arms import CENTRALISED, ROOM, ROWS
from benchmarks.study.clock import RoundCost, round_cost
from benchmarks.study.fleet import MEMORY_GB, STANDS_FOR, costs_of
from benchmarks.trial import Curve

NUM_CLIENTS = 5


@dataclass(frozen=True, kw_only=True)
class Line:
    """A method's curves in one world and on one fleet, a list for each seed.

    The first perplexity is the base's, before any round; seconds and bytes of a client go with it,
    summed up from the first round on.
    """

    seeds: Sequence[int]
    perplexity: Sequence[Sequence[float]]
    seconds: Sequence[Sequence[float]]
    client_bytes: Sequence[Sequence[float]]
    trained: Sequence[float] = ()

    @property
    def final(self) -> list[float]:
        """What each seed ended with."""
        return [curve[-1] for curve in self.perplexity]


def line_of(
    curves: Mapping[int, Curve],
    *,
    base: str,
    world: str,
    fleet: str,
    method: str,
    before: float,
    num_steps: int,
) -> Line | None:
    """A method's curves with their clock; None where any seed diverged.

    Parameters
    ----------
    curves
        By seed.
    before
        The base's perplexity.
    num_steps
        Of a round.
    """
    if any(row["perplexity"] is None for curve in curves.values() for row in curve):
        return None
    memory = None if world == ROOM else MEMORY_GB[fleet]
    costs = [
        list(_round_costs(curve, base, method, memory, num_steps)) for curve in curves.values()
    ]
    last = next(iter(curves.values()))[-1]
    return Line(
        seeds=list(curves),
        perplexity=[[before, *(row["perplexity"] for row in c)] for c in curves.values()],
        seconds=[_summed([one.seconds for one in several]) for several in costs],
        client_bytes=[_summed([one.client_bytes for one in several]) for several in costs],
        trained=last.get("trained", []),
    )


def _round_costs(
    curve: Curve, base: str, method: str, memory_gb: Sequence[float] | None, num_steps: int
) -> Iterator[RoundCost]:
    costs, row = costs_of(STANDS_FOR[base]), ROWS[method]
    known = 0.0
    for one in curve:
        trained = one.get("trained", [0.0] * NUM_CLIENTS)
        if row == CENTRALISED:
            trained = trained * NUM_CLIENTS
        yield round_cost(costs, row, trained, known, num_steps=num_steps, memory_gb=memory_gb)
        known = one.get("global", 0.0)


def _summed(each: Sequence[float]) -> list[float]:
    total, found = 0.0, [0.0]
    for one in each:
        total += one
        found.append(total)
    return found


def common_perplexity(lines: Mapping[str, Line], seed: int) -> float:
    """The lowest perplexity that all methods reach with this seed."""
    return max(
        min(curve)
        for line in lines.values()
        for own, curve in zip(line.seeds, line.perplexity, strict=True)
        if own == seed
    )


def reached_after(curve: Sequence[float], along: Sequence[float], wanted: float) -> float:
    """Where a curve first comes down to a perplexity; between points log perplexity is straight.

    Parameters
    ----------
    curve
        Perplexity, from before the first round on.
    along
        Rounds, or seconds, that go with it.
    """
    for place in range(1, len(curve)):
        if curve[place] <= wanted:
            high, low = math.log(curve[place - 1]), math.log(curve[place])
            share = 1.0 if high <= low else (high - math.log(wanted)) / (high - low)
            return along[place - 1] + share * (along[place] - along[place - 1])
    return math.inf


def rounds_to(line: Line, lines: Mapping[str, Line]) -> dict[int, float]:
    """Rounds to what all reach, by seed."""
    return {
        seed: reached_after(curve, range(len(curve)), common_perplexity(lines, seed))
        for seed, curve in zip(line.seeds, line.perplexity, strict=True)
    }


def seconds_to(line: Line, lines: Mapping[str, Line]) -> dict[int, float]:
    """Simulated seconds to what all reach, by seed."""
    pairs = zip(line.seeds, line.perplexity, line.seconds, strict=True)
    return {
        seed: reached_after(curve, seconds, common_perplexity(lines, seed))
        for seed, curve, seconds in pairs
    }


def ratios(theirs: Mapping[int, float], ours: Mapping[int, float]) -> list[float]:
    """One over the other, for the seeds that both have."""
    return [theirs[seed] / ours[seed] for seed in sorted(theirs.keys() & ours.keys())]


def as_json(line: Line) -> dict[str, Any]:
    """Plain values, rounded."""

    def rounded(several: Sequence[Sequence[float]], digits: int) -> list[list[float]]:
        return [[float(f"{value:.{digits}g}") for value in each] for each in several]

    return {
        "seeds": list(line.seeds),
        "perplexity": rounded(line.perplexity, 6),
        "seconds": rounded(line.seconds, 5),
        "client_bytes": rounded(line.client_bytes, 5),
        "trained": list(line.trained),
    }


def of_json(value: Mapping[str, Any]) -> Line:
    """What `as_json` wrote."""
    return Line(**value)
