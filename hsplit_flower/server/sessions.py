"""What a strategy asks of the sessions of its rounds, and a run that has none."""

from collections.abc import Collection, Mapping
from typing import Protocol

from ..adapters import LowRank
from ..settings import SessionSpec, Trust
from ..transport.traffic import Traffic
from ..types import WorkerDescription
from .ticket import Ticket


class Sessions(Protocol):
    """The part of a round that is not on its clients; see `WorkerSessions`."""

    def open_worker(
        self, *, num_blocks: int, quantised: str = "", awaits_ray: bool = False
    ) -> None:
        """Start what is to be started."""

    def describe(self) -> WorkerDescription:
        """What there is besides the clients."""

    def check_alive(self) -> None:
        """Raise a `WorkerUnavailableError` if nobody is there to serve a session."""

    def restart_dead(self) -> None:
        """Before a round: start again who has died."""

    def load_update(self, updates: Mapping[str, LowRank]) -> None:
        """Make ``updates`` the global adapter that the next sessions start from."""

    def open_all(
        self, specs: Mapping[int, SessionSpec], loads: Mapping[int, float]
    ) -> dict[int, Ticket]:
        """Open a session for each client."""

    def lost(self, clients: Collection[int]) -> list[int]:
        """Those of these clients whose session is gone."""

    def traffic_of(self, clients: Collection[int]) -> dict[int, Traffic]:
        """What these clients and their sessions have exchanged, where that can be said."""

    def close_all(self) -> None:
        """End every session."""

    def close_worker(self) -> None:
        """Stop what was started."""


class NoSessions:
    """The sessions of a run whose clients have the whole model: there is no worker."""

    def __init__(self, *, model: str, dtype: str) -> None:
        self._model = model
        self._dtype = dtype
        self._description: WorkerDescription | None = None

    def open_worker(
        self, *, num_blocks: int, quantised: str = "", awaits_ray: bool = False
    ) -> None:
        """Nothing is to be started."""
        self._description = WorkerDescription(
            model=self._model,
            num_blocks=num_blocks,
            lowest_cut=num_blocks,
            # Nothing is asked of it, so it is never what a round waits for.
            memory_bytes=float("inf"),
            flops_per_second=float("inf"),
            dtype=self._dtype,
            max_sessions=2**31,
        )

    def describe(self) -> WorkerDescription:
        """One that has no block and is never short of anything."""
        assert self._description is not None, "a strategy opens the worker before it asks"
        return self._description

    def check_alive(self) -> None:
        """Nobody is needed."""

    def restart_dead(self) -> None:
        """Nobody can have died."""

    def load_update(self, updates: Mapping[str, LowRank]) -> None:
        """Clients are sent all of it."""

    def open_all(
        self, specs: Mapping[int, SessionSpec], loads: Mapping[int, float]
    ) -> dict[int, Ticket]:
        """Tickets to nothing."""
        return dict.fromkeys(specs, Ticket(worker=0, address="", token="", trust=Trust()))

    def lost(self, clients: Collection[int]) -> list[int]:
        """None."""
        return []

    def traffic_of(self, clients: Collection[int]) -> dict[int, Traffic]:
        """There is nobody to exchange anything with."""
        return dict.fromkeys(clients, Traffic())

    def close_all(self) -> None:
        """None is open."""

    def close_worker(self) -> None:
        """None runs."""
