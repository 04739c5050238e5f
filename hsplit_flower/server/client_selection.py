"""Who is there in a round, what they have, and which of them take part."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from logging import INFO, WARNING
from typing import final

from flwr.common.logger import log
from flwr.serverapp import Grid

from ..devices.source import DevicesNow, DeviceSource
from ..settings import Model, Sampling
from ..types import ClientInfo
from .client_registry import UNKNOWN, ClientRegistry
from .node_wait import wait_for_nodes
from .round_planner import RoundPlanner
from .run_base import RunBase
from .state import RunState


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Who takes part in a round, what the devices of all have, and the state after asking them.

    ``base`` is what they were held to.
    """

    state: RunState
    devices: DevicesNow
    clients: Mapping[int, ClientInfo]
    base: RunBase


@final
class ClientSelection:
    """Asks who is there, looks at their devices, and samples; keeps nothing of it.

    Parameters
    ----------
    planner
        Knows who holds the smallest cut.
    source
        Who has what.
    least_available
        So many nodes must be connected before a round begins.
    wait_seconds
        So long it is waited for them.
    model
        Which clients must have.
    """

    def __init__(
        self,
        planner: RoundPlanner,
        source: DeviceSource,
        *,
        least_available: int,
        wait_seconds: float = Sampling().wait_seconds,
        model: Model,
    ) -> None:
        self._planner = planner
        self._source = source
        self._least_available = least_available
        self._wait_seconds = wait_seconds
        self._model = model

    def select(
        self,
        grid: Grid,
        state: RunState,
        server_round: int,
        *,
        fraction: float,
        least: int,
        base: RunBase = UNKNOWN,
        anew: bool = False,
    ) -> Selected:
        """The clients that take part in this round; none if too few nodes are there.

        A sampled client that cannot hold the smallest cut stays among them, so that the plan says
        why it is left out; another client is chosen in addition.

        Parameters
        ----------
        grid, state, server_round
            Where they are, what is known of them, and when.
        fraction, least
            How many are wanted: a share of all, and so many at least.
        base
            Who has another one than this is left out.
        anew
            Whether clients that failed or were left out in the last round are asked again what
            their devices have: they had no other occasion to say so.
        """
        size = max(int(len(list(grid.get_node_ids())) * fraction), least)
        connected = self._connected(grid, state, max(self._least_available, size))
        devices = DevicesNow()
        if self._source.may_lack_some:
            state = self._asked(grid, state, connected, base)
            devices = self._devices(state, connected, server_round)
        nodes = sample(connected, size=size, least=least, away=devices.away)
        doubtful = self._doubtful(state, connected) if anew and nodes else set()
        state = self._asked(grid, state, nodes, base, anew=doubtful)
        unanswered = doubtful - state.clients.known.keys()
        state = replace(state, failed=state.failed - doubtful, silent=state.silent | unanswered)
        devices = self._devices(state, connected, server_round)
        clients = state.clients.among(nodes)
        chosen = Selected(state=state, devices=devices, clients=clients, base=base)
        lacking = len(nodes) - len(self._able(chosen, clients))
        if lacking <= 0:
            return chosen
        return self._with_others(grid, chosen, server_round, connected, nodes, size=lacking)

    def _connected(self, grid: Grid, state: RunState, least: int) -> list[int]:
        return wait_for_nodes(
            grid, least, limit_seconds=self._wait_seconds, known=state.clients.known.keys()
        )

    def met(self, grid: Grid, state: RunState, base: RunBase = UNKNOWN) -> ClientRegistry:
        """What all say that are there and have this base, once there are enough."""
        connected = self._connected(grid, state, self._least_available)
        return ClientRegistry().asked(grid, connected, model=self._model, base=base)

    def _with_others(
        self,
        grid: Grid,
        chosen: Selected,
        server_round: int,
        connected: Collection[int],
        sampled: Collection[int],
        *,
        size: int,
    ) -> Selected:
        """The same with up to ``size`` more clients, which were not sampled and can take part.

        Clients that are known come first. Unknown nodes are asked a few at a time; a node that does
        not answer is not asked again for this purpose.
        """
        rest = [node for node in connected if node not in {*sampled, *chosen.devices.away}]
        random.shuffle(rest)
        known = chosen.state.clients.among(rest)
        able = self._able(chosen, known)
        strangers = [node for node in rest if node not in known and node not in chosen.state.silent]
        at_a_time = size
        while strangers and len(able) < size:
            asked, strangers = strangers[:at_a_time], strangers[at_a_time:]
            state = self._asked(grid, chosen.state, asked, chosen.base)
            answered = state.clients.among(asked)
            state = replace(state, silent=state.silent | (set(asked) - answered.keys()))
            devices = self._devices(state, connected, server_round)
            chosen = replace(chosen, state=state, devices=devices)
            able |= self._able(chosen, answered)
            at_a_time *= 2
        others = dict(islice(able.items(), size))
        if others:
            names = chosen.state.clients.names.listed(others)
            log(INFO, "Clients %s take the place of some that do not fit", names)
        return replace(chosen, clients={**chosen.clients, **others})

    def _able(self, chosen: Selected, clients: Mapping[int, ClientInfo]) -> dict[int, ClientInfo]:
        """Those of them that hold the smallest cut."""
        unfit = self._planner.shortfalls(clients.keys(), chosen.devices, chosen.state)
        return {node: client for node, client in clients.items() if node not in unfit}

    def _asked(
        self,
        grid: Grid,
        state: RunState,
        nodes: Collection[int],
        base: RunBase,
        *,
        anew: Collection[int] = (),
    ) -> RunState:
        clients = state.clients.asked(grid, nodes, model=self._model, base=base, anew=anew)
        return replace(state, clients=clients)

    def _devices(
        self, state: RunState, connected: Collection[int], server_round: int
    ) -> DevicesNow:
        return self._source.in_round(state.clients.among(connected), server_round)

    def _doubtful(self, state: RunState, connected: Collection[int]) -> set[int]:
        """Who may have something else by now, and had no occasion to say so."""
        if not self._source.takes_reports:
            return set()
        return {*state.failed, *state.left_out} & set(connected)


def sample(
    connected: Collection[int], *, size: int, least: int, away: Collection[int] = ()
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
    if size < len(present):
        log(INFO, "Sampled %s of %s nodes", size, len(connected))
    return random.sample(present, min(size, len(present)))
