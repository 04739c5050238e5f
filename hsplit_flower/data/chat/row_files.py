"""The rows of a file: JSON Lines, JSON, CSV or Parquet, told apart by the file's name."""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from ...errors import DataError
from .json_rows import json_rows, json_rows_by_line
from .row import ReadRow, Row


def csv_rows(path: Path) -> Iterator[ReadRow]:
    """The rows of a CSV file whose first line names the columns.

    An error in the place of a row names the line that has more or fewer fields than the header.

    Raises
    ------
    DataError
        If it is not UTF-8, or no CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            _check_separator(header, path)
            for fields in lines:
                place = f"{path}, line {lines.line_num}"
                if len(fields) not in (0, len(header)):
                    yield DataError(
                        f"{place}: {len(fields)} fields, and the header has {len(header)}; put "
                        "fields that hold commas in double quotes"
                    )
                elif fields:
                    values = dict(zip(header, fields, strict=True))
                    yield Row(values=values, place=place, header="line 1")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; convert it to UTF-8") from error
    except csv.Error as error:
        raise DataError(
            f"{path}, line {lines.line_num} is no CSV: {error}; quote fields that hold quotes"
        ) from None


def _check_separator(header: list[str], path: Path) -> None:
    """Programs in many languages write CSV files with semicolons, and read as one column."""
    if len(header) == 1 and (found := [sign for sign in ";\t|" if sign in header[0]]):
        raise DataError(
            f"{path}, line 1: the header is one column, with {found[0]!r} in it: commas between "
            "columns are wanted; save the file with commas",
            private_detail=repr(header[0]),
        )


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file, some of them in memory at a time.

    Raises
    ------
    DataError
        If pyarrow is not installed, or the file is no Parquet.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(
            f"{path} needs pyarrow to be read: pip install pyarrow, or save the rows as JSON Lines"
        ) from None
    number = 0
    try:
        with ParquetFile(path) as file:
            for part in file.iter_batches(batch_size=1024):
                for values in part.to_pylist():
                    number += 1
                    yield Row(values=values, place=f"{path}, row {number}")
    except pyarrow.ArrowException as error:
        raise DataError(
            f"{path} is no Parquet file that can be read ({type(error).__name__} after {number} "
            "rows); write it again"
        ) from None


READERS: Mapping[str, Callable[[Path], Iterator[ReadRow]]] = MappingProxyType(
    {
        ".jsonl": json_rows_by_line,
        ".ndjson": json_rows_by_line,
        ".json": json_rows,
        ".csv": csv_rows,
        ".parquet": parquet_rows,
    }
)


def file_rows(path: Path) -> Iterator[ReadRow]:
    """The rows of a file, one after the other, read as its name's ending says.

    An error in the place of a bad row names its line.

    Raises
    ------
    DataError
        If the ending is unknown, or the file cannot be read, or not beyond a row.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path} ends in {path.suffix!r}: one of {', '.join(READERS)} is wanted; name the file "
            "by what is in it"
        )
    try:
        yield from reader(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
