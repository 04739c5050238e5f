"""Which of the connected nodes take part in a round."""

import random
from collections.abc import Collection, Sequence
from logging import INFO, WARNING

from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy.strategy_utils import sample_nodes


def wait_for_nodes(grid: Grid, least: int) -> list[int]:
    """All connected nodes, once there are this many."""
    _, connected = sample_nodes(grid, least, 0)
    return connected


def sample(
    connected: Sequence[int], *, size: int, least: int, away: Collection[int] = ()
) -> list[int]:
    """So many of the nodes that are not away, or as many as there are; none if too few are.

    Parameters
    ----------
    connected
        All nodes.
    size
        How many are wanted.
    least
        With fewer the round could not count, and is not begun.
    away
        Nodes that are connected, but whose simulated device cannot take part.
    """
    present = [node for node in connected if node not in away]
    if len(present) < least:
        log(
            WARNING,
            "Only %s of %s nodes are there, %s are wanted: the round is left out",
            len(present),
            len(connected),
            least,
        )
        return []
    nodes = random.sample(present, min(size, len(present)))
    log(INFO, "Sampled %s nodes (out of %s)", len(nodes), len(connected))
    return nodes
