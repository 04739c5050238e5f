"""A split worker as the strategy sees it, wherever it runs."""

from collections.abc import Mapping
from typing import Protocol

from ..adapters import LowRank
from ..settings import SessionSpec, Trust
from ..types import WorkerDescription
from ..wire.factors import SessionResult
from ..wire.work_done import WorkDone


class WorkerHandle(Protocol):
    """A split worker as the strategy sees it, wherever it runs."""

    address: str

    @property
    def trust(self) -> Trust:
        """What clients are told of the channel to it."""

    def describe(self) -> WorkerDescription:
        """What the worker holds and has."""

    def load_update(self, updates: Mapping[str, LowRank]) -> None:
        """Make ``updates`` the global adapter of the next sessions; those left open are closed."""

    def open(self, spec: SessionSpec) -> str:
        """Open a session and give its token."""

    def steps(self) -> Mapping[int, int]:
        """How many steps each open session has done, by client."""

    def work_done(self) -> WorkDone:
        """How far all open sessions are."""

    def collect(self, token: str) -> SessionResult:
        """What a session has learnt so far."""

    def close(self, token: str) -> None:
        """End a session."""

    def stop(self) -> None:
        """Let go of the worker."""
