"""Waiting until enough nodes are connected, and not for ever."""

import time
from collections.abc import Collection
from logging import INFO

from flwr.common.logger import log
from flwr.serverapp import Grid

from ..errors import NodesMissingError

POLL_SECONDS = 1.0
# Said at once, and then this often.
TELL_SECONDS = 30.0
MOST_NAMED = 10


def wait_for_nodes(
    grid: Grid, least: int, *, limit_seconds: float, known: Collection[int] = ()
) -> list[int]:
    """All connected nodes, once there are this many.

    Parameters
    ----------
    grid
        Where they are.
    least
        How many are wanted.
    limit_seconds
        How long it is waited for them.
    known
        Who has been there before; those of them that are missing are named.

    Raises
    ------
    NodesMissingError
        If there are fewer after that time.
    """
    started = time.monotonic()
    told = -TELL_SECONDS
    while len(connected := list(grid.get_node_ids())) < least:
        waited = time.monotonic() - started
        state = f"{len(connected)} of {least} nodes are connected{_missing(known, connected)}"
        if waited >= limit_seconds:
            raise NodesMissingError(
                f"{state}, after {waited:.0f} s: start the other SuperNodes, lower "
                "sampling.min-available-nodes, or raise sampling.wait-seconds"
            )
        if waited - told >= TELL_SECONDS:
            told = waited
            log(INFO, "Waiting: %s; %.0f s more at most", state, limit_seconds - waited)
        time.sleep(min(POLL_SECONDS, max(0.0, limit_seconds - waited)))
    return connected


def _missing(known: Collection[int], connected: Collection[int]) -> str:
    """Who was there and is not, in words."""
    gone = sorted(set(known) - set(connected))
    if not gone:
        return ""
    named = ", ".join(map(str, gone[:MOST_NAMED]))
    more = f" and {len(gone) - MOST_NAMED} more" if len(gone) > MOST_NAMED else ""
    return f", clients {named}{more} are gone"
