"""Waiting until enough nodes are connected, and not for ever."""

import time
from collections.abc import Collection, Mapping
from logging import INFO
from types import MappingProxyType

from flwr.common.logger import log
from flwr.serverapp import Grid

from ..errors import NodesMissingError
from ..names import listed

POLL_SECONDS = 1.0
# Said at once, and then this often.
TELL_SECONDS = 30.0
MOST_NAMED = 10
NOBODY: Mapping[int, str] = MappingProxyType({})


def wait_for_nodes(
    grid: Grid, least: int, *, limit_seconds: float, known: Mapping[int, str] = NOBODY
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
        What those are called that have been there before, by node; those of them that are missing
        are named.

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


def _missing(known: Mapping[int, str], connected: Collection[int]) -> str:
    """Who was there and is not, in words.

    A node that was not there before may be one of them: it has another id after it was started
    again, and what it is called it says when it is asked.
    """
    gone = [name for node, name in known.items() if node not in connected]
    if not gone:
        return ""
    subject = f"client{'s' * (len(gone) > 1)} {listed(gone, MOST_NAMED)}"
    verb = "are" if len(gone) > 1 else "is"
    new = ", or back as a new node" if any(node not in known for node in connected) else ""
    return f", {subject} {verb} gone{new}"
