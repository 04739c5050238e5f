"""The rows of a JSON Lines file, and those of a JSON file that holds a list of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import DataError
from .row import ReadRow, Row

_DECODER = json.JSONDecoder()
_WHITE_SPACE = " \t\r\n"


def json_rows_by_line(path: Path) -> Iterator[ReadRow]:
    """The rows of a JSON Lines file: an object a line; empty lines are passed over.

    An error in the place of a row names the line that is not UTF-8, or holds no object.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                place = f"{path}, line {number}"
                try:
                    value = _decoded(line, place)
                except DataError as error:
                    yield error
                else:
                    yield _row(value, place)


def json_rows(path: Path) -> Iterator[ReadRow]:
    """The rows of a JSON file, which is one list of objects; an error in the place of another item.

    Raises
    ------
    DataError
        Naming the line on which a row begins that cannot be read, or something after the list.
    """
    text = path.read_bytes()
    yield from _list_items(_utf8(text, str(path)), path)


def _list_items(text: str, path: Path) -> Iterator[ReadRow]:
    """One after the other, so that each knows its line."""
    position = _after_space(text, 0)
    if text[position : position + 1] != "[":
        raise DataError(
            f"{path} is not a list: [{{…}}, {{…}}] is wanted; a file with an object on each line "
            "is named .jsonl"
        )
    position, line, counted = _after_space(text, position + 1), 1, 0
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        place = f"{path}, line {line}"
        try:
            value, position = _DECODER.raw_decode(text, position)
        except ValueError as error:
            raise _no_json(error, f"{path}, row that begins on line {line}") from None
        except RecursionError:
            raise DataError(f"{place} is nested too deeply to be a row") from None
        yield _row(value, place)
        position = _after_space(text, position)
        if text[position : position + 1] == ",":
            position = _after_space(text, position + 1)
        elif text[position : position + 1] != "]":
            raise DataError(f"{path} does not go on with a comma or ] after the row of line {line}")
    after = _after_space(text, position + 1)
    if after < len(text):
        line += text.count("\n", counted, after)
        raise DataError(
            f"{path}, line {line} goes on after the list's end: one list with all rows is wanted; "
            "join the lists, or save the rows as JSON Lines, an object on each line"
        )


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in _WHITE_SPACE:
        position += 1
    return position


def _decoded(line: bytes, place: str) -> Any:
    text = _utf8(line, place)
    try:
        return json.loads(text)
    except ValueError as error:
        raise _no_json(error, place) from None
    except RecursionError:
        raise DataError(f"{place} is nested too deeply to be a row") from None


def _utf8(text: bytes, place: str) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{place} is not UTF-8 text; convert the file to UTF-8") from None


def _no_json(error: ValueError, place: str) -> DataError:
    """What the decoder says without the text that it says it of."""
    reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
    return DataError(f"{place} is no JSON ({reason}); correct or remove it")


def _row(value: Any, place: str) -> ReadRow:
    if isinstance(value, dict):
        return Row(values=value, place=place)
    return DataError(
        f"{place} is a {type(value).__name__}: an object with columns is wanted, such as "
        '{"prompt": "…", "completion": "…"}'
    )
