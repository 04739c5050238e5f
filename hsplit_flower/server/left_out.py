"""Who was asked and has no part in a round, and why."""

from collections.abc import Collection, Mapping

from ..planning import budget_text
from ..reports.client_records import LeftOut
from ..sizes import size_text
from ..types import Shortfall
from .client_registry import NO_DESCRIPTION, ClientRegistry


def without_description(registry: ClientRegistry, connected: Collection[int]) -> dict[int, LeftOut]:
    """Those that are there, and have not said what their devices have."""
    return {
        node: LeftOut(kind="silent" if reason == NO_DESCRIPTION else "refused", reason=reason)
        for node, reason in registry.unanswered.items()
        if node in connected
    }


def without_device(away: Collection[int]) -> dict[int, LeftOut]:
    """Those whose simulated device cannot take part in this round."""
    reason = "its simulated device is away in this round"
    return {node: LeftOut(kind="away", reason=reason) for node in away}


def without_room(shortfalls: Mapping[int, Shortfall]) -> dict[int, LeftOut]:
    """Those that do not hold the smallest cut."""
    return {
        node: LeftOut(
            kind="memory",
            reason=shortfall_text(shortfall),
            budget_bytes=shortfall.budget_bytes,
            needed_bytes=shortfall.needed_bytes,
        )
        for node, shortfall in shortfalls.items()
    }


def without_part(
    chosen: Collection[int], parts: Collection[int], *, why_unplanned: str
) -> dict[int, LeftOut]:
    """Those that were chosen and have nothing to do.

    Parameters
    ----------
    chosen, parts
        Who was to take part, and who does.
    why_unplanned
        Why nobody was planned for, where that is so.
    """
    one = (
        LeftOut(kind="gone", reason="it left while the round was prepared")
        if parts or not why_unplanned
        else LeftOut(kind="unplanned", reason=why_unplanned)
    )
    return {node: one for node in chosen if node not in parts}


def shortfall_text(shortfall: Shortfall) -> str:
    """What a client has, needs and lacks."""
    return (
        f"it has {budget_text(shortfall)}, its smallest part needs "
        f"{size_text(shortfall.needed_bytes)}, it lacks {size_text(shortfall.lacking_bytes)}"
    )
