"""Who is there in a round, what they have, and which of them take part."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from logging import INFO, WARNING
from typing import final

from flwr.common.logger import log
from flwr.serverapp import Grid

from ..devices.source import DevicesNow, DeviceSource
from ..names import ClientNames
from ..settings import Model, Sampling
from ..types import ClientInfo
from .client_registry import UNKNOWN, ClientRegistry
from .instructions import mixed_seed
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
    seed
        Of the run: who takes part follows from it.
    """

    def __init__(
        self,
        planner: RoundPlanner,
        source: DeviceSource,
        *,
        least_available: int,
        wait_seconds: float = Sampling().wait_seconds,
        model: Model,
        seed: int,
    ) -> None:
        self._planner = planner
        self._source = source
        self._least_available = least_available
        self._wait_seconds = wait_seconds
        self._model = model
        self._seed = seed

    def select(
        self,
        grid: Grid,
        state: RunState,
        server_round: int,
        *,
        fraction: float,
        least: int,
        base: RunBase = UNKNOWN,
        trains: bool = False,
    ) -> Selected:
        """The clients that take part in this round; none if too few nodes are there.

        Everybody who is new is asked before anybody is sampled, since who a node is decides whether
        it is. A sampled client that cannot hold the smallest cut stays among them, so that the plan
        says why it is left out; another client is chosen in addition.

        Parameters
        ----------
        grid, state, server_round
            Where they are, what is known of them, and when.
        fraction, least
            How many are wanted: a share of all, and so many at least.
        base
            Who has another one than this is left out.
        trains
            Whether they train, and do not evaluate. Then clients that failed or were left out in
            the last round are asked again what their devices have: they had no other occasion to
            say so.
        """
        size = max(int(len(list(grid.get_node_ids())) * fraction), least)
        connected = self._connected(grid, state, max(self._least_available, size))
        met = state.clients.names.by_client
        new = [node for node in connected if size and node not in met]
        state = self._asked(grid, state, new, base)
        devices = self._devices(state, connected, server_round)
        drawn = self._drawn(state, connected, server_round, trains=trains)
        nodes = sample(drawn, size=size, least=least, away=devices.away)
        doubtful = self._doubtful(state, connected) if trains and nodes else set()
        # Who is new has been asked just now, whether it answered or not.
        asked = [node for node in nodes if node in met]
        state = self._asked(grid, state, asked, base, anew=doubtful)
        state = replace(state, failed=state.failed - doubtful)
        devices = self._devices(state, connected, server_round)
        clients = state.clients.among(nodes)
        chosen = Selected(state=state, devices=devices, clients=clients, base=base)
        lacking = len(nodes) - len(self._able(chosen, clients))
        if lacking <= 0:
            return chosen
        return self._with_others(chosen, [n for n in drawn if n not in nodes], size=lacking)

    def _drawn(
        self, state: RunState, nodes: Collection[int], server_round: int, *, trains: bool
    ) -> list[int]:
        names = state.clients.names
        return in_drawn_order(
            nodes, names, seed=self._seed, server_round=server_round, trains=trains
        )

    def _connected(self, grid: Grid, state: RunState, least: int) -> list[int]:
        clients = state.clients
        known = {node: clients.names.of(node) for node in clients.known}
        return wait_for_nodes(grid, least, limit_seconds=self._wait_seconds, known=known)

    def met(self, grid: Grid, state: RunState, base: RunBase = UNKNOWN) -> ClientRegistry:
        """What all say that are there and have this base, once there are enough."""
        connected = self._connected(grid, state, self._least_available)
        return ClientRegistry().asked(grid, connected, model=self._model, base=base)

    def _with_others(self, chosen: Selected, rest: Sequence[int], *, size: int) -> Selected:
        """The same with up to ``size`` more clients: the first of the rest that can take part."""
        present = [node for node in rest if node not in chosen.devices.away]
        able = self._able(chosen, chosen.state.clients.among(present))
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


def in_drawn_order(
    nodes: Collection[int], names: ClientNames, *, seed: int, server_round: int, trains: bool
) -> list[int]:
    """The nodes in the order in which a round takes them.

    Each has a place of its own, which follows from its name, the round and the run's seed: a run
    that goes on after its nodes were given other ids takes the clients that it would have taken.

    Parameters
    ----------
    nodes, names
        Who is there, and what they are called.
    seed
        Of the run.
    server_round, trains
        Which round it is, and whether its clients train or evaluate.
    """
    purpose = "train" if trains else "evaluate"

    def place(node: int) -> tuple[int, str]:
        name = names.of(node)
        return mixed_seed(seed, server_round, f"{purpose}/{name}"), name

    return sorted(nodes, key=place)


def sample(drawn: Sequence[int], *, size: int, least: int, away: Collection[int] = ()) -> list[int]:
    """The first so many of the nodes that are not away, or all there are; none if too few are.

    Parameters
    ----------
    drawn
        All nodes, in the order in which they are taken.
    size
        How many are wanted.
    least
        With fewer the round could not count, and is not begun.
    away
        Nodes that are connected, but whose simulated device cannot take part.
    """
    present = [node for node in drawn if node not in away]
    if len(present) < least:
        log(
            WARNING,
            "Only %s of %s nodes are there, %s are wanted: the round is left out",
            len(present),
            len(drawn),
            least,
        )
        return []
    if size < len(present):
        log(INFO, "Sampled %s of %s nodes", size, len(drawn))
    return present[:size]
