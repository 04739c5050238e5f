"""One data-to-text example, and how its meaning representation is read and written.

A meaning representation is a line of attributes in the E2E manner,
``name[The Copper Heron], kind[tavern]``. Nothing here knows a data set or a prompt format.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import DataError

_ATTRIBUTE = re.compile(r"\s*([^\[\],\s][^\[\],]*)\[([^\[\]]*)\]\s*(?:,|$)")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A meaning representation and one sentence or more that says it."""

    meaning: str
    """The attributes as the data set writes them."""
    reference: str
    """The text a model should write for them."""


def parse_meaning(meaning: str) -> tuple[tuple[str, str], ...]:
    """Which attributes a meaning representation has, as (name, value) in the order written.

    Raises
    ------
    DataError
        If the text is not a list of ``name[value]``, parted by commas.
    """
    pairs = []
    position = 0
    while position < len(meaning):
        match = _ATTRIBUTE.match(meaning, position)
        if match is None:
            raise DataError(
                f"cannot read a meaning of {len(meaning)} characters at its character "
                f"{position + 1}: wanted attributes like 'name[The Copper Heron], kind[tavern]'; "
                "correct the text, or use the prompt style 'brackets', which takes it as it is",
                private_detail=repr(meaning),
            )
        pairs.append((match[1].strip(), match[2].strip()))
        position = match.end()
    return tuple(pairs)


def write_meaning(attributes: Iterable[tuple[str, str]]) -> str:
    """The meaning representation of these attributes; the reverse of `parse_meaning`."""
    return ", ".join(f"{name}[{value}]" for name, value in attributes)
