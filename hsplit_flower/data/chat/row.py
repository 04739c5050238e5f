"""A row of a file: its columns, and where it stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """The values of one row by column; ``place`` names its file and line, for messages."""

    values: Mapping[str, Any] = field(repr=False)
    place: str
