"""Markdown from the templates of this room, in which others' words stand as they are."""

import json
import re
from importlib.resources import files

from jinja2 import Environment, StrictUndefined


def rendered(template: str, **values: object) -> str:
    """A template's text with these values.

    Parameters
    ----------
    template
        Name of its file.
    values
        By the names that it uses; one that is missing is an error.
    """
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    environment.filters |= {"cell": cell, "counted": _counted, "literal": json.dumps}
    source = (files(__package__) / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)


def cell(value: object) -> str:
    """As a table's cell shows it: in one line, its marks taken as they are."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
