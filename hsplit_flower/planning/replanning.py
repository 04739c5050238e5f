"""When to plan again: the third part of adaptive rank and split configuration (ARMSC)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..names import NUMBERED, ClientNames
from ..settings import Planning
from ..types import DeviceProfile, Plan


@dataclass(frozen=True, kw_only=True)
class FleetChanges:
    """How the devices differ from those that the standing plan was made for.

    Attributes
    ----------
    unserved
        Clients for which the standing plan has no answer: they joined, their memory shrank below
        what it asks of them, or they were left out and now have what they lacked.
    changed
        Clients with another profile, which could still follow the standing plan.
    left
        Clients that are gone.
    """

    unserved: frozenset[int] = frozenset()
    changed: frozenset[int] = frozenset()
    left: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.unserved or self.changed or self.left)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether to plan again, and why or why not, in words for the log."""

    replan: bool
    reason: str


def drift(importance: Mapping[str, float], reference: Mapping[str, float] | None) -> float:
    """``D_t = ½ Σ_k | Ī_k/ΣĪ − I*_k/ΣI* |``: the share of importance that has moved, in [0, 1].

    A plan that was made before any importance was known took all weights for equally important: its
    ``I*`` is uniform. Importance that is zero everywhere counts as uniform too.
    """
    # In one order, so that the sum is the same in every process.
    names = list(dict.fromkeys([*importance, *(reference or {})]))
    if not names:
        return 0.0
    now, then = _shares(importance, names), _shares(reference or {}, names)
    return 0.5 * sum(abs(now[name] - then[name]) for name in names)


def fleet_changes(
    plan: Plan,
    before: Mapping[int, DeviceProfile],
    now: Mapping[int, DeviceProfile],
    *,
    needed_bytes: Mapping[int, float] | None = None,
) -> FleetChanges:
    """How the devices have changed since ``plan`` was made for those of ``before``.

    Parameters
    ----------
    plan
        The standing one.
    before, now
        Profiles then and now. A client that was left out and still does not fit is no change.
    needed_bytes
        What each client of the plan needs by now, since the global update has grown
        (`planned_bytes`); as predicted then if None.
    """
    if needed_bytes is None:
        needed_bytes = {client: part.memory.total_bytes for client, part in plan.clients.items()}
    different = {client for client in now.keys() & before.keys() if now[client] != before[client]}
    fitting = {
        client
        for client, shortfall in plan.left_out.items()
        if client in now and now[client].memory_bytes >= shortfall.needed_bytes
    }
    too_small = {
        client
        for client in now.keys() & plan.clients.keys()
        if now[client].memory_bytes < needed_bytes[client]
    }
    joined = now.keys() - before.keys()
    return FleetChanges(
        unserved=frozenset(joined | too_small | fitting),
        changed=frozenset(different - too_small - plan.left_out.keys()),
        left=frozenset(before.keys() - now.keys()),
    )


def should_replan(
    *,
    drift: float,
    changes: FleetChanges,
    rounds_since_plan: int,
    improvement: float | None = None,
    settings: Planning | None = None,
    names: ClientNames = NUMBERED,
) -> Decision:
    """Whether a new plan should replace the standing one.

    Parameters
    ----------
    drift
        ``D_t`` against the importance that the standing plan was made from.
    changes
        Of the devices since then.
    rounds_since_plan
        Rounds that have been run on the standing plan.
    improvement
        By what share the new plan's objective is better; None when it has not been computed, which
        answers whether there is a reason to compute it.
    settings
        Thresholds; the defaults if None.
    names
        What clients are called in the reason.

    Notes
    -----
    A client that the standing plan cannot serve is answered at once: neither cooldown nor margin
    may keep it out, for both compare with a plan that it does not have.
    """
    settings = settings or Planning()
    if changes.unserved:
        unserved = _clients(changes.unserved, names)
        reason = f"the standing plan has nothing that fits {unserved}"
        return Decision(replan=True, reason=reason)
    reasons = _reasons(drift, changes, settings, names)
    if not reasons:
        quiet = f"importance drifted by {drift:.3f} <= {settings.drift_threshold:g}"
        return Decision(replan=False, reason=f"{quiet}, no client changed")
    because = " and ".join(reasons)
    if rounds_since_plan < settings.cooldown_rounds:
        return Decision(
            replan=False,
            reason=f"{because}, but the plan is {rounds_since_plan} rounds old and stands for "
            f"{settings.cooldown_rounds}",
        )
    return _if_worth_it(because, improvement, settings.margin)


def _reasons(
    drift: float, changes: FleetChanges, settings: Planning, names: ClientNames
) -> list[str]:
    """Why a new plan may be better; none where nothing has changed."""
    reasons = []
    if drift > settings.drift_threshold:
        reasons.append(f"importance drifted by {drift:.3f} > {settings.drift_threshold:g}")
    if changes.changed:
        reasons.append(f"{_clients(changes.changed, names)} changed")
    if changes.left:
        reasons.append(f"{_clients(changes.left, names)} left")
    return reasons


def _if_worth_it(because: str, improvement: float | None, margin: float) -> Decision:
    """Plan again for these reasons, unless a new plan is known to promise too little."""
    if improvement is None:
        return Decision(replan=True, reason=because)
    if improvement < margin:
        return Decision(
            replan=False,
            reason=f"{because}, but a new plan promises {improvement:+.1%}, less than {margin:.1%}",
        )
    return Decision(replan=True, reason=f"{because}; the new plan promises {improvement:+.1%}")


def _shares(scores: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    total = sum(scores.values())
    if total <= 0.0:
        return dict.fromkeys(names, 1.0 / len(names))
    return {name: scores.get(name, 0.0) / total for name in names}


def _clients(clients: Collection[int], names: ClientNames) -> str:
    return f"client{'s' if len(clients) > 1 else ''} {names.listed(clients)}"
