"""How good a plan is, in one number, so that two can be compared."""

import math
from collections.abc import Mapping

from ..costs.model_costs import ModelCosts
from ..costs.seconds import client_seconds, worker_seconds
from ..settings.planning import PlanSettings
from ..types import DeviceProfile, Plan
from .ranks import rank_gain


def covered_importance(
    ranks: Mapping[str, int], importance: Mapping[str, float] | None, *, gain_base: float
) -> float:
    """``Σ_k Ī_k g(r_k) / Σ_k Ī_k``: the share of importance that ranks take up, in [0, 1].

    Where no importance is known, all weights count alike.
    """
    scores = {name: (importance or {}).get(name, 0.0) for name in ranks}
    if not any(scores.values()):
        scores = dict.fromkeys(ranks, 1.0)
    total = sum(scores.values())
    gained = sum(
        scores[name] * rank_gain(rank, gain_base) for name, rank in ranks.items() if rank > 0
    )
    return gained / total if total else 0.0


def objective(
    plan: Plan,
    costs: ModelCosts,
    profiles: Mapping[int, DeviceProfile],
    worker: DeviceProfile,
    *,
    importance: Mapping[str, float] | None = None,
    settings: PlanSettings | None = None,
) -> float:
    """Importance that the clients take up per second; more is better.

    The covered shares of all clients that are still there, over the makespan of one step on the
    devices as they are now, which may not be those that the plan was made for.
    """
    settings = settings or PlanSettings()
    there = {client: part for client, part in plan.clients.items() if client in profiles}
    if not there:
        return 0.0
    slowest = max(
        client_seconds(
            costs,
            cut=part.cut,
            profile=profiles[client],
            labels=settings.labels,
            checkpointing=part.checkpointing,
        )
        for client, part in there.items()
    )
    load = settings.round_share * sum(
        worker_seconds(costs, cut=part.cut, worker=worker, labels=settings.labels)
        for part in there.values()
    )
    covered = sum(
        covered_importance(part.ranks, importance, gain_base=settings.gain_base)
        for part in there.values()
    )
    seconds = max(slowest, load)
    return covered / seconds if seconds > 0 else math.inf


def improvement(standing: float, candidate: float) -> float:
    """By what share a candidate's objective is better than the standing plan's."""
    if candidate == standing:
        return 0.0
    return candidate / standing - 1.0 if standing > 0 else math.inf
