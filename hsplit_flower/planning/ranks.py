"""Which rank each weight gets: the second half of adaptive rank and split configuration (ARMSC).

    maximise Σ_k Ī_k g(r_k)   subject to   Σ_k r_k c_k ≤ budget,   r_k in the allowed ranks

with ``g(r) = 1 − base^r``: concave, increasing, ``g(0) = 0``. Raising one weight from one allowed
rank to the next is a *step*; on a concave ``g`` a weight's steps are worth less and less per byte.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from statistics import fmean
from typing import NamedTuple, TypeGuard

from ..importance import check_finite


class Step(NamedTuple):
    """Raising one weight to ``rank`` from the allowed rank below, and what that costs and gains."""

    name: str
    rank: int
    cost_bytes: float
    gain: float


@dataclass(frozen=True, kw_only=True)
class GreedySteps:
    """All steps of a set of weights, the most gain per byte first; made once, walked often."""

    names: tuple[str, ...]
    steps: tuple[Step, ...]

    def only(self, names: Collection[str]) -> "GreedySteps":
        """The steps of some of the weights."""
        return GreedySteps(
            names=tuple(name for name in self.names if name in names),
            steps=tuple(step for step in self.steps if step.name in names),
        )

    @cached_property
    def reached(self) -> list[tuple[str, int]]:
        """Weight and rank of each step."""
        return [(step.name, step.rank) for step in self.steps]

    @cached_property
    def spent_bytes(self) -> list[float]:
        """What all steps up to each one cost together."""
        return list(accumulate(step.cost_bytes for step in self.steps))

    @cached_property
    def cheapest_bytes(self) -> float:
        return min((step.cost_bytes for step in self.steps), default=0.0)


def rank_gain(rank: int, base: float) -> float:
    """``g(r) = 1 − base^r``: how much of a weight's importance a rank of ``r`` takes up."""
    return 1.0 - base**rank


def step_gain(lower: int, upper: int, base: float) -> float:
    """``g(upper) − g(lower)``, without the cancellation that subtracting them would bring."""
    return float(base**lower * (1.0 - base ** (upper - lower)))


def greedy_steps(
    rank_bytes: Mapping[str, float],
    importance: Mapping[str, float],
    *,
    allowed_ranks: Sequence[int],
    gain_base: float,
) -> GreedySteps:
    """Sort the steps of the weights by gain per byte.

    Parameters
    ----------
    rank_bytes
        ``c_k``: bytes of one rank, by weight name.
    importance
        ``Ī_k`` by weight name; a weight without one counts as an average one.
    allowed_ranks
        Ascending, from 0.
    gain_base
        Of ``g``.

    Raises
    ------
    NonFiniteError
        If an importance is not a finite number of zero or more.
    """
    scores = _completed(importance, rank_bytes)
    steps = [
        Step(
            name=name,
            rank=upper,
            cost_bytes=(upper - lower) * cost,
            gain=scores[name] * step_gain(lower, upper, gain_base),
        )
        for name, cost in rank_bytes.items()
        for lower, upper in pairwise(allowed_ranks)
    ]
    # Of steps that gain alike, as those of a weight that does not matter, low ranks come first.
    steps.sort(key=lambda step: (-step.gain / step.cost_bytes, step.rank))
    return GreedySteps(names=tuple(rank_bytes), steps=tuple(steps))


def greedy_ranks(greedy: GreedySteps, budget_bytes: float) -> dict[str, int]:
    """Ranks by taking the steps in order, passing over what does not fit.

    At least the optimum less the gain of the first step that does not fit: up to there the steps
    are an optimal solution of the problem whose last step may be taken in part.
    """
    taken = bisect_right(greedy.spent_bytes, budget_bytes)
    # A weight's later steps come later, so the highest one taken is what stays.
    ranks = {**dict.fromkeys(greedy.names, 0), **dict(greedy.reached[:taken])}
    left = budget_bytes - (greedy.spent_bytes[taken - 1] if taken else 0.0)
    stopped: set[str] = set()
    for step in greedy.steps[taken:]:
        if left < greedy.cheapest_bytes:
            break
        if step.cost_bytes <= left and step.name not in stopped:
            ranks[step.name] = step.rank
            left -= step.cost_bytes
        else:
            stopped.add(step.name)
    return ranks


def uniform_rank(
    rank_bytes: Mapping[str, float], budget_bytes: float, *, allowed_ranks: Sequence[int]
) -> int:
    """The highest allowed rank that fits on all weights alike."""
    cost = sum(rank_bytes.values())
    return max((rank for rank in allowed_ranks if rank * cost <= budget_bytes), default=0)


def is_known(importance: Mapping[str, float] | None) -> TypeGuard[Mapping[str, float]]:
    """Whether importance tells any weight from another that does not matter."""
    return importance is not None and any(score > 0 for score in importance.values())


def choose_ranks(
    rank_bytes: Mapping[str, float],
    importance: Mapping[str, float] | None,
    *,
    budget_bytes: float,
    allowed_ranks: Sequence[int],
    gain_base: float,
) -> dict[str, int]:
    """A rank for every weight: by importance, or the same for all where nothing is known of it."""
    if not is_known(importance):
        rank = uniform_rank(rank_bytes, budget_bytes, allowed_ranks=allowed_ranks)
        return dict.fromkeys(rank_bytes, rank)
    greedy = greedy_steps(rank_bytes, importance, allowed_ranks=allowed_ranks, gain_base=gain_base)
    return greedy_ranks(greedy, budget_bytes)


def _completed(importance: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    check_finite(importance)
    average = fmean(importance.values()) if importance else 1.0
    return {name: importance.get(name, average) for name in names}
