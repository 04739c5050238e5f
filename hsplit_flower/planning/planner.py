"""A cut and ranks for every client: cost model, cuts and ranks put together (ARMSC)."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from ..costs.client_peak import client_memory
from ..costs.global_update import NO_UPDATE
from ..costs.model_costs import ModelCosts
from ..costs.seconds import part_seconds, wire_bytes
from ..errors import ConfigError, InfeasibleBudgetError
from ..names import NUMBERED, ClientNames
from ..settings.planning import PlanSettings
from ..sizes import size_text
from ..types import ClientPlan, DeviceProfile, Plan, Shortfall, Span
from .choices import CutChoices
from .cut_limits import cut_limits
from .cuts import choose_cuts, choose_one_cut
from .explain import budget_text
from .tables import Tables
from .worker_share import session_budgets

MOST_CLIENTS_IN_A_MESSAGE = 20
NO_CORRECTION: Mapping[int, float] = {}


def plan(
    costs: ModelCosts,
    profiles: Mapping[int, DeviceProfile],
    worker: DeviceProfile,
    *,
    importance: Mapping[str, float] | None = None,
    settings: PlanSettings | None = None,
    update_ranks: Mapping[str, int] = NO_UPDATE,
    corrections: Mapping[int, float] = NO_CORRECTION,
    names: ClientNames = NUMBERED,
) -> Plan:
    """Which cut and ranks every client gets, and which clients cannot take part.

    Parameters
    ----------
    costs
        Of the model at the run's workload.
    profiles, names, worker
        Of the clients by their ids, what they are called in an error, and of the split worker.
    importance
        ``Ī_k`` by weight name; None while nothing is known, which gives uniform ranks.
    settings
        Limits and preferences; the defaults if None.
    update_ranks
        Rank of the global update by weight name, which decides what its frozen part takes.
    corrections
        What the memory of clients is divided by for which too little was predicted.

    Raises
    ------
    InfeasibleBudgetError
        If no client holds the smallest cut with the lowest rank, or if the worker does not hold its
        half for those that do.
    ConfigError
        If the settings do not fit the model.
    """
    settings = _checked(settings or PlanSettings(), costs)
    tables = Tables(
        costs=costs, settings=settings, update_ranks=update_ranks, importance=importance
    )
    choices = CutChoices(tables)
    left_out = _shortfalls(choices, profiles, corrections)
    if profiles and len(left_out) == len(profiles):
        raise InfeasibleBudgetError(_nobody_fits(left_out, settings.min_cut, names))
    usable = _usable(profiles, left_out, corrections)
    cuts = _cuts(choices, tables, usable, worker)
    shares = session_budgets(tables, cuts, worker)
    clients = _client_plans(choices, shares, cuts, usable, worker)
    seconds = _step_seconds(clients, settings.round_share)
    return Plan(clients=clients, left_out=left_out, step_seconds=seconds)


def shortfalls(
    costs: ModelCosts,
    profiles: Mapping[int, DeviceProfile],
    *,
    settings: PlanSettings | None = None,
    update_ranks: Mapping[str, int] = NO_UPDATE,
    corrections: Mapping[int, float] = NO_CORRECTION,
) -> dict[int, Shortfall]:
    """Which clients do not hold the smallest cut, and what each of them lacks (see `plan`)."""
    tables = Tables(
        costs=costs,
        settings=settings or PlanSettings(),
        update_ranks=update_ranks,
        importance=None,
    )
    return _shortfalls(CutChoices(tables), profiles, corrections)


def planned_bytes(
    plan: Plan,
    costs: ModelCosts,
    *,
    settings: PlanSettings | None = None,
    update_ranks: Mapping[str, int] = NO_UPDATE,
) -> dict[int, float]:
    """What each client of a standing plan needs now that the global update has these ranks."""
    return {
        client: client_memory(
            costs,
            cut=part.cut,
            ranks=part.ranks,
            settings=settings or PlanSettings(),
            update_ranks=update_ranks,
            checkpointing=part.checkpointing,
        ).total_bytes
        for client, part in plan.clients.items()
    }


def _checked(settings: PlanSettings, costs: ModelCosts) -> PlanSettings:
    """The settings, if the model has a cut that they allow."""
    if settings.min_cut > costs.num_blocks:
        raise ConfigError(
            f"min_cut is {settings.min_cut}, but a {costs.model_type} of {costs.num_blocks} blocks "
            f"can be cut at 1 to {costs.num_blocks}"
        )
    return settings


def _shortfalls(
    choices: CutChoices, profiles: Mapping[int, DeviceProfile], corrections: Mapping[int, float]
) -> dict[int, Shortfall]:
    short = {
        client: Shortfall(
            needed_bytes=choices.least_bytes,
            budget_bytes=profile.memory_bytes,
            correction=corrections.get(client, 1.0),
        )
        for client, profile in profiles.items()
    }
    return {client: one for client, one in short.items() if one.lacking_bytes > 0.0}


def _usable(
    profiles: Mapping[int, DeviceProfile],
    left_out: Collection[int],
    corrections: Mapping[int, float],
) -> dict[int, DeviceProfile]:
    """The devices of those that take part, with the memory that they may be planned for."""
    return {
        client: replace(profile, memory_bytes=profile.memory_bytes / corrections.get(client, 1.0))
        for client, profile in profiles.items()
        if client not in left_out
    }


def _cuts(
    choices: CutChoices,
    tables: Tables,
    usable: Mapping[int, DeviceProfile],
    worker: DeviceProfile,
) -> dict[int, int]:
    settings = tables.settings
    options = {client: choices.options(profile) for client, profile in usable.items()}
    worker_options = tables.worker_options(worker)
    choose = choose_one_cut if settings.one_cut else choose_cuts
    return choose(options, worker_options, min_cut=settings.min_cut, slack=settings.makespan_slack)


Ranks = Mapping[str, int]


def _client_plans(
    choices: CutChoices,
    session_bytes: Mapping[int, float],
    cuts: Mapping[int, int],
    usable: Mapping[int, DeviceProfile],
    worker: DeviceProfile,
) -> dict[int, ClientPlan]:
    tables = {client: choices.tables(cut, usable[client]) for client, cut in cuts.items()}
    ranks: dict[int, tuple[Ranks, Ranks]] = {
        client: (
            tables[client].client_ranks(cut, usable[client].memory_bytes),
            tables[client].session_ranks(cut, session_bytes[client]),
        )
        for client, cut in cuts.items()
    }
    if any(own.settings.one_rank for own in tables.values()):
        ranks = _one_rank(ranks)
    limits = cut_limits(choices, cuts, usable, worker)
    return {
        client: replace(
            _client_plan(tables[client], cut, *ranks[client], usable[client], worker),
            binds=limits[client].binds,
            why=limits[client].why,
        )
        for client, cut in cuts.items()
    }


def _one_rank(ranks: Mapping[int, tuple[Ranks, Ranks]]) -> dict[int, tuple[Ranks, Ranks]]:
    """The same with the lowest of all ranks everywhere, which everybody has room for."""
    sides = [side for both in ranks.values() for side in both]
    lowest = min((rank for side in sides for rank in side.values()), default=0)
    return {
        client: (dict.fromkeys(below, lowest), dict.fromkeys(above, lowest))
        for client, (below, above) in ranks.items()
    }


def _client_plan(
    tables: Tables,
    cut: int,
    below: Ranks,
    above: Ranks,
    profile: DeviceProfile,
    worker: DeviceProfile,
) -> ClientPlan:
    costs, settings = tables.costs, tables.settings
    part = ClientPlan(
        span=Span(start=0, stop=cut),
        ranks={**below, **above},
        checkpointing=tables.checkpointing,
        memory=client_memory(
            costs,
            cut=cut,
            ranks=below,
            settings=settings,
            update_ranks=tables.update_ranks,
            checkpointing=tables.checkpointing,
        ),
        wire_bytes=wire_bytes(costs, settings.labels).total_bytes,
    )
    seconds = part_seconds(
        costs,
        part,
        profile=profile,
        worker=worker,
        settings=settings,
        update_ranks=tables.update_ranks,
    )
    return replace(
        part,
        client_seconds=seconds.compute_seconds + seconds.link_seconds,
        worker_seconds=seconds.worker_seconds,
    )


def _step_seconds(clients: Mapping[int, ClientPlan], round_share: float) -> float:
    """``max( max_i T_i, Σ_i S_i )``, now that the ranks are known too."""
    slowest = max((part.client_seconds for part in clients.values()), default=0.0)
    load = round_share * math.fsum(part.worker_seconds for part in clients.values())
    return max(slowest, load)


def _nobody_fits(left_out: Mapping[int, Shortfall], min_cut: int, names: ClientNames) -> str:
    listed = [
        f"client {names.of(client)} has {budget_text(shortfall)}, needs "
        f"{size_text(shortfall.needed_bytes)}, lacks {size_text(shortfall.lacking_bytes)}"
        for client, shortfall in sorted(left_out.items())[:MOST_CLIENTS_IN_A_MESSAGE]
    ]
    if len(left_out) > len(listed):
        listed.append(f"and {len(left_out) - len(listed)} more")
    return (
        f"no client holds the smallest cut, {min_cut}: {'; '.join(listed)}. Give the clients more "
        "memory, or lower batch size, sequence length or rank-unit"
    )
