"""The one form of everything on the wire that is not a tensor: versioned JSON, made from fields.

What a value has, its text has, so that a field is said once. Nothing is read that has another
version, lacks a field, or has a value beyond the limits of its field. Numbers that JSON lacks, as a
link without a limit has them, are texts.
"""

import json
import math
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..errors import CodecError

VERSION = 1
"""Goes up when a text of before could be taken for something else."""
MOST_CHARACTERS = 4 * 2**20
"""More than the ranks of any model take."""

MOST_PROBLEMS, MOST_SAID = 10, 1000

_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}

Value = TypeVar("Value")


def to_text(value: Any) -> str:
    """A group of settings, or a dataclass, as text."""
    content = _adapter(type(value)).dump_python(value, mode="json")
    return json.dumps({"version": VERSION, "content": _plain(content)}, allow_nan=False)


def from_text(
    kind: type[Value],
    text: str,
    *,
    most_characters: float = MOST_CHARACTERS,
    called: str = "",
    to_change: str = ": install the same hsplit_flower on server, clients and worker",
) -> Value:
    """The value that a text stands for.

    Parameters
    ----------
    kind
        What it must be.
    text
        Somebody else's.
    most_characters
        Longer ones are refused; infinite for a file of one's own.
    called
        What it is to whoever is told that it is none; empty for the name of its kind.
    to_change
        What is to be done about one of another version.

    Raises
    ------
    CodecError
        If it is of another version, or is no such value.
    """
    if len(text) > most_characters:
        raise CodecError(f"a text of {len(text)} characters: at most {most_characters} are read")
    called = called or kind.__name__
    try:
        form = json.loads(text)
        version, content = form["version"], form["content"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CodecError(f"this is no {called}: {error!r}") from error
    if type(version) is not int or version != VERSION:
        raise CodecError(f"a {called} of version {version!r}, {VERSION} is wanted{to_change}")
    try:
        value: Value = _adapter(kind).validate_python(content)
        return value
    except ValidationError as error:
        raise CodecError(f"this is no {called}: {_said(error)}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Made once for each kind: it takes a while."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _said(error: ValidationError) -> str:
    """What is wrong, cut short: what was got is somebody else's text, of any length."""
    said = "; ".join(
        str(each["ctx"]["error"])
        if each["type"] == "value_error"
        else f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
        for each in error.errors(include_url=False, include_input=False)[:MOST_PROBLEMS]
    )
    return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]}…"
