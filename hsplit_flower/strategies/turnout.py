"""Who is there in a round, what they have, and which of them take part."""

import random
from collections.abc import Iterable
from typing import final

from flwr.serverapp import Grid

from .gathering import Gathered
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
        self._failed: set[int] = set()

    def members(
        self, grid: Grid, server_round: int, *, fraction: float, least: int, anew: bool = False
    ) -> dict[int, Member]:
        """Who takes part in this round, of those that are there; nobody if these are too few.

        Who is sampled and cannot hold the smallest cut is among them, and another one besides.

        Parameters
        ----------
        grid, server_round
            Where they are, and when.
        fraction, least
            How many are wanted: a share of all, and so many at least.
        anew
            Ask those again, before a plan is made, of whom the last one heard nothing new: they
            failed, or were left out.
        """
        fleet, roster = self._planner.fleet, self._roster
        size = max(int(len(list(grid.get_node_ids())) * fraction), least)
        connected = wait_for_nodes(grid, max(self._least_available, size))
        if fleet is not None and fleet.may_lack_some:
            roster.members(grid, connected)
            self._planner.look(roster.met(connected), server_round)
        nodes = sample(connected, size=size, least=least, away=self._planner.away)
        doubtful = self._doubtful(connected) if anew and nodes else set()
        members = roster.members(grid, nodes, anew=doubtful)
        self._failed -= doubtful
        self._planner.look(roster.met(connected), server_round)
        able = members.keys() - self._planner.unfit(members)
        rest = set(connected) - {*nodes, *self._planner.away}
        return members | self._stand_ins(grid, server_round, rest, size=len(nodes) - len(able))

    def _stand_ins(
        self, grid: Grid, server_round: int, others: Iterable[int], *, size: int
    ) -> dict[int, Member]:
        """So many of the others who can take part, as far as there are; met as they are needed."""
        members: dict[int, Member] = {}
        rest = sorted(others)
        random.shuffle(rest)
        while rest and len(members) < size:
            lacking = size - len(members)
            tried, rest = rest[:lacking], rest[lacking:]
            met = self._roster.members(grid, tried)
            self._planner.look(self.everyone(grid), server_round)
            unfit = self._planner.unfit(met)
            members |= {node: member for node, member in met.items() if node not in unfit}
        return members

    def everyone(self, grid: Grid) -> dict[int, Member]:
        """All that are connected and have said what they have."""
        return self._roster.met(grid.get_node_ids())

    def hear(self, gathered: Gathered) -> None:
        """Take what the devices of those that finished a round have by now, and note who failed."""
        # What a simulated client's machine has is of no interest: its device is the fleet's.
        if self._planner.fleet is not None:
            return
        self._failed |= {node for node, report in gathered.reports.items() if report.dropped}
        for node, client in gathered.finished.items():
            if client.profile is not None:
                self._roster.update(node, client.profile)

    def _doubtful(self, connected: Iterable[int]) -> set[int]:
        """Who may have something else by now, and had no occasion to say so."""
        if self._planner.fleet is not None:
            return set()
        return (self._failed | self._planner.left_out.keys()) & set(connected)
