"""What each client's adapters may take on the worker: its share of the worker's memory."""

from collections.abc import Mapping

from ..costs.global_update import NO_UPDATE
from ..costs.model_costs import ModelCosts
from ..settings.planning import PlanSettings
from ..types import DeviceProfile
from .tables import Tables


def session_budgets(
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
