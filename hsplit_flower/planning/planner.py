"""A cut and ranks for every client: cost model, cuts and ranks put together (ARMSC)."""

import math
from collections.abc import Mapping
from dataclasses import replace

from ..costs.memory import NO_UPDATE, client_memory
from ..costs.model_costs import ModelCosts
from ..costs.seconds import part_seconds, wire_bytes
from ..errors import ConfigError, InfeasibleBudgetError
from ..settings.planning import PlanSettings
from ..sizes import size_text
from ..types import ClientPlan, DeviceProfile, Plan, Shortfall, Span
from .choices import CutChoices
from .cuts import choose_cuts
from .explain import budget_text
from .tables import Tables

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
) -> Plan:
    """Which cut and ranks every client gets, and which clients cannot take part.

    Parameters
    ----------
    costs
        Of the model at the run's workload.
    profiles
        Of the clients by their ids.
    worker
        Of the split worker.
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
    settings = settings or PlanSettings()
    if settings.min_cut > costs.num_blocks:
        raise ConfigError(
            f"min_cut is {settings.min_cut}, but a {costs.model_type} of {costs.num_blocks} blocks "
            f"can be cut at 1 to {costs.num_blocks}"
        )
    tables = Tables(
        costs=costs, settings=settings, update_ranks=update_ranks, importance=importance
    )
    choices = CutChoices(tables)
    left_out = _shortfalls(choices, profiles, corrections)
    if profiles and len(left_out) == len(profiles):
        raise InfeasibleBudgetError(_nobody_fits(left_out, settings.min_cut))
    usable = {
        client: replace(profile, memory_bytes=profile.memory_bytes / corrections.get(client, 1.0))
        for client, profile in profiles.items()
        if client not in left_out
    }
    options = {client: choices.options(profile) for client, profile in usable.items()}
    worker_options = tables.worker_options(worker)
    cuts = choose_cuts(
        options, worker_options, min_cut=settings.min_cut, slack=settings.makespan_slack
    )
    session_bytes = _session_budgets(tables, cuts, worker)
    clients = {
        client: _client_plan(
            choices.tables(cut, usable[client]),
            cut,
            usable[client],
            worker,
            session_bytes[client],
        )
        for client, cut in cuts.items()
    }
    return Plan(
        clients=clients,
        left_out=left_out,
        step_seconds=_step_seconds(clients, settings.round_share),
    )


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


def session_need_bytes(
    costs: ModelCosts, *, rank: int, settings: PlanSettings | None = None
) -> float:
    """What a session takes that has this rank on all weights above the smallest cut.

    As `PlanSettings.worker_session_bytes`, it lets a client whose cut is deep have higher ranks on
    the few weights that are left to the worker.
    """
    settings = settings or PlanSettings()
    tables = Tables(costs=costs, settings=settings, update_ranks=NO_UPDATE, importance=None)
    return rank * sum(tables.session_rank_bytes(settings.min_cut).values())


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


def _session_budgets(
    tables: Tables, cuts: Mapping[int, int], worker: DeviceProfile
) -> dict[int, float]:
    """Bytes that each client's adapters may take on the worker."""
    granted = tables.settings.worker_session_bytes
    if granted is not None or not cuts:
        return dict.fromkeys(cuts, granted or 0.0)
    # The cuts were chosen to leave room for every session's lowest ranks.
    unit, highest = tables.settings.rank_unit, tables.settings.allowed_ranks[-1]
    per_rank = {cut: sum(tables.session_rank_bytes(cut).values()) for cut in set(cuts.values())}
    least = {client: unit * per_rank[cut] for client, cut in cuts.items()}
    useful = {client: highest * per_rank[cut] for client, cut in cuts.items()}
    waiting = sum(tables.session_waiting_bytes[cut] for cut in cuts.values())
    # As much for all clients as leaves a round's, in the mean, what the worker has.
    beside_half = worker.memory_bytes - tables.worker_base_bytes[min(cuts.values())]
    free_bytes = beside_half / tables.settings.round_share - waiting - sum(least.values())
    return _shared(free_bytes, least, useful)


def _shared(
    free_bytes: float, least: Mapping[int, float], useful: Mapping[int, float]
) -> dict[int, float]:
    """Everyone's least, and equal shares of what is free; what one cannot use goes to the rest."""
    shares = {}
    by_room = sorted(least, key=lambda client: useful[client] - least[client])
    for served, client in enumerate(by_room):
        more = min(useful[client] - least[client], free_bytes / (len(by_room) - served))
        shares[client] = least[client] + more
        free_bytes -= more
    return shares


def _client_plan(
    tables: Tables,
    cut: int,
    profile: DeviceProfile,
    worker: DeviceProfile,
    session_bytes: float,
) -> ClientPlan:
    costs, settings = tables.costs, tables.settings
    below = tables.client_ranks(cut, profile.memory_bytes)
    above = tables.session_ranks(cut, session_bytes)
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
        labels=settings.labels,
        start=settings.start,
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


def _nobody_fits(left_out: Mapping[int, Shortfall], min_cut: int) -> str:
    listed = [
        f"client {client} has {budget_text(shortfall)}, needs "
        f"{size_text(shortfall.needed_bytes)}, lacks {size_text(shortfall.lacking_bytes)}"
        for client, shortfall in sorted(left_out.items())[:MOST_CLIENTS_IN_A_MESSAGE]
    ]
    if len(left_out) > len(listed):
        listed.append(f"and {len(left_out) - len(listed)} more")
    return (
        f"no client holds the smallest cut, {min_cut}: {'; '.join(listed)}. Give the clients more "
        "memory, or lower batch size, sequence length or rank-unit"
    )
