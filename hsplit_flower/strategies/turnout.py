"""Who is there in a round, what they have, and which of them take part."""

from collections.abc import Mapping
from typing import final

from flwr.serverapp import Grid

from .replies import TrainReply
from .roster import Member, Roster
from .round_planner import RoundPlanner
from .sampling import sample, wait_for_nodes


@final
class Turnout:
    """Asks who is there, has the planner look at their devices, and samples.

    Parameters
    ----------
    planner
        Knows the devices of a simulated fleet, and who of them is away.
    least_available
        So many nodes must be connected before a round begins.
    """

    def __init__(self, planner: RoundPlanner, least_available: int) -> None:
        self._planner = planner
        self._least_available = least_available
        self._roster = Roster()

    def members(
        self, grid: Grid, server_round: int, *, fraction: float, least: int
    ) -> dict[int, Member]:
        """Who takes part in this round, of those that are there; nobody if these are too few."""
        fleet, roster = self._planner.fleet, self._roster
        size = max(int(len(list(grid.get_node_ids())) * fraction), least)
        connected = wait_for_nodes(grid, max(self._least_available, size))
        if fleet is not None and fleet.may_lack_some:
            roster.members(grid, connected)
            self._planner.look(roster.met(connected), server_round)
        nodes = sample(connected, size=size, least=least, away=self._planner.away)
        members = roster.members(grid, nodes)
        self._planner.look(roster.met(connected), server_round)
        return members

    def everyone(self, grid: Grid) -> dict[int, Member]:
        """All that are connected and have said what they have."""
        return self._roster.met(grid.get_node_ids())

    def hear(self, finished: Mapping[int, TrainReply]) -> None:
        """Take what the devices of those that finished a round have by now."""
        # What a simulated client's machine has is of no interest: its device is the fleet's.
        if self._planner.fleet is not None:
            return
        for node, client in finished.items():
            if client.profile is not None:
                self._roster.update(node, client.profile)
