"""A row of a file: its columns, and where it stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import DataError
from ...rows import names_told


@dataclass(frozen=True, kw_only=True)
class Row:
    """The values of one row by column.

    Attributes
    ----------
    values
        By the names of the columns.
    place
        Its file and line, for messages.
    header
        The line that is taken as the names of the columns, where one is: it may be a row that is
        taken for a header.
    """

    values: Mapping[str, Any] = field(repr=False)
    place: str
    header: str = ""

    @property
    def taken_as_names(self) -> str:
        """What a message says of where the columns' names come from."""
        return f", and {self.header} is taken as their names" if self.header else ""

    @property
    def columns_found(self) -> str:
        """The names of the columns."""
        return names_told(self.values)


ReadRow = Row | DataError
"""A row as it was read, or why it cannot be, where those after it can."""
