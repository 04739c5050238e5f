"""What is wrong with rows: the first that is, or all of it at once."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

from ...errors import DataError
from ...sizes import counted

_PLACE = re.compile(r", ((?:line|row) \d+)")
"""The line or row that a message names after its file."""


@dataclass(kw_only=True)
class _Kind:
    """Errors that say the same of several rows: the first one, and where the others are."""

    first: DataError
    count: int = 0
    places: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.count:
            return f"\n  - {self.first}"
        rest = self.count - len(self.places)
        told = ", ".join(self.places) + (f" and {rest} more" if rest else "")
        return f"\n  - {self.first}\n    the same: {told}"


@final
class Problems:
    """Errors of rows that are told together, so that they are mended together.

    Parameters
    ----------
    name
        What messages call the set.
    most
        So many that differ are told in words, and of those that are alike so many by their rows;
        the others are counted. With one, the first ends the reading.
    """

    def __init__(self, name: str, most: int = 1) -> None:
        self._name = name
        self._most = most
        self._kinds: dict[str, _Kind] = {}
        self._count = 0
        self._others = 0

    def add(self, error: DataError) -> None:
        """Note a row's error.

        Raises
        ------
        DataError
            This one, if the first ends the reading.
        """
        if self._most == 1:
            raise error
        self._count += 1
        place = _PLACE.search(str(error))
        words = _PLACE.sub("", str(error), count=1)
        if kind := self._kinds.get(words):
            kind.count += 1
            if place and len(kind.places) < self._most:
                kind.places.append(place[1])
        elif len(self._kinds) < self._most:
            self._kinds[words] = _Kind(first=error)
        else:
            self._others += 1

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what the block raises, and go on after it."""
        try:
            yield
        except DataError as error:
            self.add(error)

    def check(self) -> None:
        """Raise what was noted, if anything was.

        Raises
        ------
        DataError
            The one error as it is, or several and how many there are.
        """
        kinds = list(self._kinds.values())
        if self._count == 1:
            raise kinds[0].first
        if not self._count:
            return
        lines = list(map(str, kinds))
        if self._others:
            lines.append(f"\n  and {counted(self._others, 'other')}")
        details = dict.fromkeys(kind.first.private_detail for kind in kinds)
        raise DataError(
            f"{self._name} has {counted(self._count, 'problem')}:{''.join(lines)}",
            private_detail="; ".join(filter(None, details)),
        )
