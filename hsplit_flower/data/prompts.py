"""Prompt formats: the text that a model reads before it writes a reference.

A format is a function from a meaning representation to text that ends in a newline; the formats are
told apart by name, so that a run can choose one.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..errors import ConfigError
from .example import Example, parse_meaning

_SHORT_NAMES = {
    "eatType": "type",
    "priceRange": "price",
    "customer rating": "rating",
    "familyFriendly": "family-friendly",
}
_INNER_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def plain_prompt(meaning: str) -> str:
    """The attributes as ``name: The Copper Heron; kind: tavern`` and a newline.

    Uses no brackets, which small tokenizers have hardly seen. E2E's attribute names become plain
    words (``eatType`` is ``type``), and any other camelCase is parted.
    """
    pairs = (f"{_plain_name(name)}: {value}" for name, value in parse_meaning(meaning))
    return "; ".join(pairs) + "\n"


def brackets_prompt(meaning: str) -> str:
    """The meaning representation as the data set writes it, and a newline."""
    return meaning + "\n"


PROMPT_STYLES: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"plain": plain_prompt, "brackets": brackets_prompt}
)


def format_prompt(example: Example, style: str = "plain") -> str:
    """What a model reads before it writes this example's reference.

    Raises
    ------
    ConfigError
        If there is no such style.
    DataError
        If the style is ``"plain"`` and the meaning is not a list of ``name[value]``.
    """
    if style not in PROMPT_STYLES:
        raise ConfigError(f"unknown prompt style {style!r}; wanted one of {sorted(PROMPT_STYLES)}")
    return PROMPT_STYLES[style](example.meaning)


def _plain_name(name: str) -> str:
    short = _SHORT_NAMES.get(name)
    return short if short is not None else _INNER_CAPITAL.sub(" ", name).lower()
