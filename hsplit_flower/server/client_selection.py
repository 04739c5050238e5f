"""Who is there in a round, what they have, and which of them take part."""

import random
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from logging import INFO
from typing import final

from flwr.common.logger import log
from flwr.serverapp import Grid

from hsplit_flower.types import ClientInfo

from .client_registry import ClientRegistry
from .collection import Gathered
from .round_planner import RoundPlanner
from .sampling import sample, wait_for_nodes


@final
class ClientSelection:
    """Asks who is there, has the planner look at their devices, and samples.

    Parameters
    ----------
    planner
        Knows the devices of a simulated fleet, and who of them is away.
    least_available
        So many nodes must be connected before a round begins.
    dtype
        What the model computes in.
    """

    def __init__(self, planner: RoundPlanner, least_available: int, dtype: str = "float32") -> None:
        self._planner = planner
        self._least_available = least_available
        self._registry = ClientRegistry(dtype)
        self._failed: set[int] = set()
        self._silent: set[int] = set()

    def members(
        self, grid: Grid, server_round: int, *, fraction: float, least: int, anew: bool = False
    ) -> dict[int, ClientInfo]:
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
        fleet, registry = self._planner.fleet, self._registry
        size = max(int(len(list(grid.get_node_ids())) * fraction), least)
        connected = wait_for_nodes(grid, max(self._least_available, size))
        if fleet is not None and fleet.may_lack_some:
            registry.members(grid, connected)
            self._planner.look(registry.met(connected), server_round)
        nodes = sample(connected, size=size, least=least, away=self._planner.away)
        doubtful = self._doubtful(connected) if anew and nodes else set()
        members = registry.members(grid, nodes, anew=doubtful)
        self._failed -= doubtful
        self._silent |= doubtful - registry.met(doubtful).keys()
        self._planner.look(registry.met(connected), server_round)
        lacking = len(nodes) - len(self._able(members))
        return members | self._stand_ins(grid, server_round, connected, nodes, size=lacking)

    def _stand_ins(
        self,
        grid: Grid,
        server_round: int,
        connected: Collection[int],
        sampled: Collection[int],
        *,
        size: int,
    ) -> dict[int, ClientInfo]:
        """So many of those who were not sampled and can take part, as far as there are.

        Who has said already what it has comes first. The others are asked a few at a time, and not
        again by this if they do not answer.
        """
        rest = [node for node in connected if node not in {*sampled, *self._planner.away}]
        random.shuffle(rest)
        known = self._registry.met(rest) if size > 0 else {}
        able = self._able(known)
        strangers = [node for node in rest if node not in known and node not in self._silent]
        at_a_time = size
        while strangers and len(able) < size:
            asked, strangers = strangers[:at_a_time], strangers[at_a_time:]
            met = self._registry.members(grid, asked)
            self._silent |= set(asked) - met.keys()
            self._planner.look(self._registry.met(connected), server_round)
            able |= self._able(met)
            at_a_time *= 2
        chosen = dict(islice(able.items(), max(size, 0)))
        if chosen:
            log(INFO, "Clients %s take the place of some that do not fit", sorted(chosen))
        return chosen

    def _able(self, members: Mapping[int, ClientInfo]) -> dict[int, ClientInfo]:
        """Those of them that hold the smallest cut."""
        unfit = self._planner.unfit(members)
        return {node: member for node, member in members.items() if node not in unfit}

    def everyone(self, grid: Grid) -> dict[int, ClientInfo]:
        """All that are connected and have said what they have."""
        return self._registry.met(grid.get_node_ids())

    def hear(self, gathered: Gathered) -> None:
        """Take what the devices of those that finished a round have by now, and note who failed."""
        # What a simulated client's machine has is of no interest: its device is the fleet's.
        if self._planner.fleet is not None:
            return
        self._failed |= {node for node, report in gathered.reports.items() if report.dropped}
        for node, client in gathered.finished.items():
            if client.profile is not None:
                self._registry.update(node, client.profile)

    def _doubtful(self, connected: Iterable[int]) -> set[int]:
        """Who may have something else by now, and had no occasion to say so."""
        if self._planner.fleet is not None:
            return set()
        return (self._failed | self._planner.left_out.keys()) & set(connected)
