"""Where conversations come from: the built-in help desk, a file, or a data set on the hub."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..hub import hub_table
from . import help_desk
from .conversation import Conversation
from .problems import Problems
from .row import ReadRow, Row
from .row_files import READERS, file_rows
from .row_format import RowFormat

HELP_DESK = "help-desk"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_conversations(source: str) -> bool:
    """Whether a set by this name is one of conversations, and nothing else that we know.

    The id of a set on the hub does not say what is in it.
    """
    path = Path(source).expanduser()
    return source == HELP_DESK or bool(
        source and (path.is_file() or path.suffix.lower() in READERS)
    )


def load_conversations(
    source: str, rows: RowFormat | None = None, *, problems: Problems | None = None
) -> list[Conversation]:
    """All conversations of a set, in its order.

    Parameters
    ----------
    source
        ``"help-desk"`` (built in), the path of a file whose ending is one of `READERS`, or a hub
        id as ``"owner/name"``, of which the train split is taken. A file comes before a hub id.
        Only a hub id may use the network.
    rows
        How rows are read; recognised by their columns if nothing is said.
    problems
        Notes bad rows, which are left out then; without it the first ends the reading.

    Raises
    ------
    DataError
        If it is none of the three, or holds no rows; a bad row is named by file and line.
    """
    return _conversations(rows_of(source), rows or RowFormat(), source, problems)


def conversations_of(
    rows: Iterable[Mapping[str, Any]], row_format: RowFormat | None = None, *, name: str = "the set"
) -> list[Conversation]:
    """All conversations of rows that are read already, such as a `datasets.Dataset`.

    Parameters
    ----------
    rows
        Mappings from column to value.
    row_format
        How they are read; recognised by their columns if nothing is said.
    name
        What messages call the set.

    Raises
    ------
    DataError
        If there are no rows; a bad one is named by its number.
    """
    numbered = (
        Row(values=values, place=f"{name}, row {number}")
        for number, values in enumerate(rows, start=1)
    )
    return _conversations(numbered, row_format or RowFormat(), name)


def rows_of(source: str) -> Iterator[ReadRow]:
    """The rows of a set, each or what is wrong with it; see `load_conversations`."""
    path = Path(source).expanduser()
    if source == HELP_DESK:
        yield from help_desk.rows()
    elif is_conversations(source):
        yield from file_rows(path)
    elif _HUB_ID.fullmatch(source):
        place = f"{source}, split 'train'"
        for number, values in enumerate(hub_table(source, "train"), start=1):
            yield Row(values=values, place=f"{place}, row {number}")
    elif path.is_dir():
        raise DataError(
            f"{path} is a folder: a file in it that ends in one of {', '.join(READERS)} is wanted"
        )
    else:
        raise DataError(
            f"unknown data {source!r}: {HELP_DESK!r} (built in), a file that ends in one of "
            f"{', '.join(READERS)} (there is none at {path.absolute()}), or a hub id 'owner/name' "
            "is wanted"
        )


def _conversations(
    rows: Iterator[ReadRow],
    row_format: RowFormat,
    name: str,
    problems: Problems | None = None,
) -> list[Conversation]:
    problems = problems or Problems(name)
    found = []
    with problems.noted():
        for row in _sound(_with_group(rows, row_format.group_by), problems):
            with problems.noted():
                found.append(row_format.conversation(row))
    if not found:
        problems.check()
        raise DataError(f"{name} has no rows: one or more is wanted")
    return found


def _sound(rows: Iterator[ReadRow], problems: Problems) -> Iterator[Row]:
    """Those that could be read."""
    for row in rows:
        if isinstance(row, DataError):
            problems.add(row)
        else:
            yield row


def _with_group(rows: Iterator[ReadRow], group_by: str) -> Iterator[ReadRow]:
    """The rows; refused if the first lacks the column that they are divided by."""
    first = next(rows, None)
    if first is None:
        return
    if group_by and isinstance(first, Row) and group_by not in first.values:
        raise DataError(
            f"{first.place} has no column {group_by!r} to divide by among its "
            f"{len(first.values)}{first.taken_as_names}; name one of them",
            private_detail=first.columns_found,
        )
    yield from chain([first], rows)
