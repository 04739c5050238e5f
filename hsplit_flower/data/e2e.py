"""A folder of E2E-style CSV files, one for each split, with the columns ``mr`` and ``ref``.

Reads text as it is: whether the meanings are lists of attributes matters only to a prompt format or
to a partition by attribute, and is checked there.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from .example import Example

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

_FILE_NAMES = {
    "train": ("trainset.csv", "train.csv"),
    "dev": ("devset.csv", "dev.csv"),
    "test": ("testset_w_refs.csv", "testset*.csv", "test.csv"),
}
_COLUMNS = ("mr", "ref")


def read_e2e_folder(folder: Path, split: str) -> list[Example]:
    """The examples of one split (``"train"``, ``"dev"`` or ``"test"``) of a folder of CSV files.

    Raises
    ------
    DataError
        If there is no file for the split, or the file cannot be read (see `read_e2e_file`).
    """
    if split not in _FILE_NAMES:
        raise DataError(f"unknown split {split!r}; wanted one of {list(_FILE_NAMES)}")
    for pattern in _FILE_NAMES[split]:
        found = sorted(folder.glob(pattern))
        if found:
            return read_e2e_file(found[0])
    present = sorted(path.name for path in folder.glob("*.csv")) or "no CSV file"
    raise DataError(
        f"folder {folder} has no {split} file: wanted one of {list(_FILE_NAMES[split])}, "
        f"found {present}; rename or add the file"
    )


def read_e2e_file(path: Path) -> list[Example]:
    """The examples of one CSV file, in its order, with surrounding white space removed.

    Columns other than ``mr`` and ``ref`` are left alone.

    Raises
    ------
    DataError
        If a column is missing, a row is malformed or has an empty field, or there is no row. Names
        the file, and the row with the line it ends on.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read_rows(path, csv.reader(file, strict=True))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); convert it to UTF-8") from error
    except csv.Error as error:
        raise DataError(
            f"{path} is not a CSV file: {error}; quote fields that hold quotes"
        ) from error


def _read_rows(path: Path, rows: "CsvReader") -> list[Example]:
    header = next(rows, None)
    if header is None:
        raise DataError(f"{path} is empty; wanted a header with {list(_COLUMNS)} and rows")
    columns = _column_positions(path, header)
    examples = []
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        fields = _row_fields(f"{path}, row {number} (line {rows.line_num})", row, header, columns)
        examples.append(Example(meaning=fields[0], reference=fields[1]))
    if not examples:
        raise DataError(f"{path} has a header and no rows; wanted at least one example")
    return examples


def _column_positions(path: Path, header: Sequence[str]) -> tuple[int, ...]:
    names = [name.strip().lower() for name in header]
    missing = [column for column in _COLUMNS if column not in names]
    if missing:
        raise DataError(
            f"{path} lacks the columns {missing}: its first line names {len(header)}, wanted are "
            f"{list(_COLUMNS)}; name the columns in the first line",
            private_detail=str(list(header)),
        )
    return tuple(names.index(column) for column in _COLUMNS)


def _row_fields(
    place: str, row: Sequence[str], header: Sequence[str], columns: tuple[int, ...]
) -> tuple[str, ...]:
    if len(row) != len(header):
        raise DataError(
            f"{place} has {len(row)} fields, the header has {len(header)}; "
            "put fields that hold commas in double quotes"
        )
    fields = tuple(row[column].strip() for column in columns)
    for column, text in zip(_COLUMNS, fields, strict=True):
        if not text:
            raise DataError(f"{place} has an empty {column!r}; fill it in or remove the row")
    return fields
