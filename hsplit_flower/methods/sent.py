"""What a client of certain ranks is given of the global adapter, and which ranks it still has."""

from collections.abc import Mapping

from ..adapters import LowRank
from .method import Method
from .state import MethodState


def trained_ranks(
    method: Method, state: MethodState, client: int, planned: Mapping[str, int]
) -> dict[str, int]:
    """The planned ranks, or those that the client has pruned itself to where they are lower."""
    if method.pruning is None:
        return dict(planned)
    own = state.client_ranks.get(client, {})
    return {name: min(rank, own.get(name, rank)) for name, rank in planned.items()}


def sent_updates(
    method: Method, updates: Mapping[str, LowRank], ranks: Mapping[str, int]
) -> dict[str, LowRank]:
    """The global adapter as a client's model has it: all of it, or as much as the client trains.

    Parameters
    ----------
    method
        Whose rule it is.
    updates
        The global adapter.
    ranks
        What the client trains of each weight; nothing of those that are missing.
    """
    if not method.truncates:
        return dict(updates)
    return {name: update.head(ranks.get(name, 0)) for name, update in updates.items()}
