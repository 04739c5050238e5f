"""Moments of a run at which it waits to be disturbed: known to all its processes by files."""

import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.01


class Place(Enum):
    """Where in a round a moment is."""

    OPENING = "while sessions open"
    BEFORE_FIRST_STEP = "before the first step"
    MID_STEP = "mid-step"
    COLLECTING = "while results are collected"
    BETWEEN_ROUNDS = "between rounds"


@dataclass(frozen=True, kw_only=True)
class Moments:
    """The moments of one run.

    A process that comes to a moment which somebody awaits stays there until it is released, or is
    killed. Whoever comes there a second time, or where nobody waits, goes on.

    Parameters
    ----------
    folder
        Where the files are.
    """

    folder: Path

    def reach(self, server_round: int, place: Place) -> None:
        """Come to a moment, in a process of the run."""
        path = self._path(server_round, place)
        try:
            path.with_suffix(".awaited").rename(path.with_suffix(".reached"))
        except FileNotFoundError:
            return
        while not path.with_suffix(".released").exists():
            time.sleep(POLL_SECONDS)

    def await_(self, server_round: int, place: Place) -> None:
        """Have the run stop at a moment that is still to come."""
        self._path(server_round, place).with_suffix(".awaited").touch()

    def is_reached(self, server_round: int, place: Place) -> bool:
        """Whether the run is, or was, stopped there."""
        return self._path(server_round, place).with_suffix(".reached").exists()

    def release(self, server_round: int, place: Place) -> None:
        """Have the run go on."""
        self._path(server_round, place).with_suffix(".released").touch()

    def _path(self, server_round: int, place: Place) -> Path:
        return self.folder / f"round-{server_round}-{place.name.lower()}"
