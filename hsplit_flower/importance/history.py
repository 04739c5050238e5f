"""Importance over rounds: today's reports of all clients, blended with what was known before."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import NonFiniteError

BETA_MAX = 0.8
WARM_ROUNDS = 4

LARGEST_SCORE = 1e30
"""More than any gradient gives, and so little that no sum over clients and rounds overflows."""


@dataclass(frozen=True, kw_only=True)
class ImportanceHistory:
    """``Ī_k`` by weight name, and how many rounds went into it."""

    scores: Mapping[str, float] = field(default_factory=dict)
    num_rounds: int = 0


@dataclass(frozen=True, kw_only=True)
class ImportanceReport:
    """One client's ``I_{i,k}`` of one probe batch, both sides of its cut together."""

    num_examples: int
    scores: Mapping[str, float]

    def __post_init__(self) -> None:
        check_finite(self.scores, most=LARGEST_SCORE)


def check_finite(scores: Mapping[str, float], *, most: float = math.inf) -> None:
    """Refuse scores that are not finite and non-negative, or above the most that is believed.

    Raises
    ------
    NonFiniteError
        Naming the first offending weight.
    """
    for name, score in scores.items():
        if not (math.isfinite(score) and score >= 0.0):
            raise NonFiniteError(
                f"importance of {name!r} is {score}: a finite number of zero or more is wanted"
            )
        if score > most:
            raise NonFiniteError(f"importance of {name!r} is {score}: {most:g} or less is wanted")


def mean_scores(reports: Sequence[ImportanceReport]) -> dict[str, float]:
    """``Σ_i p_i I_{i,k}`` with ``p_i = n_i / Σ n``, over the clients that scored weight ``k``."""
    sums: dict[str, float] = {}
    examples: dict[str, int] = {}
    for report in reports:
        for name, score in report.scores.items():
            sums[name] = sums.get(name, 0.0) + report.num_examples * score
            examples[name] = examples.get(name, 0) + report.num_examples
    return {name: total / examples[name] for name, total in sums.items()}


def history_weight(num_rounds: int, drift: float) -> float:
    """``β_t``: how much of the past to keep.

    ``β_t = β_max (1 − D_t) min(1, t / t_warm)``: nothing while there is no past, little while
    importance moves fast or training is young, most when it has settled.
    """
    return BETA_MAX * (1.0 - min(max(drift, 0.0), 1.0)) * min(1.0, num_rounds / WARM_ROUNDS)


def blend(history: ImportanceHistory, today: Mapping[str, float], beta: float) -> ImportanceHistory:
    """``Ī_k ← β Ī_k + (1 − β) I_k``; a weight that is scored on one side only keeps that score."""
    names = {**history.scores, **today}
    scores = {
        name: beta * history.scores.get(name, today.get(name, 0.0))
        + (1.0 - beta) * today.get(name, history.scores.get(name, 0.0))
        for name in names
    }
    return ImportanceHistory(scores=scores, num_rounds=history.num_rounds + 1)
