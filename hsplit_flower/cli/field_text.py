"""A setting's field in words: what it is by default, and what it may be."""

from enum import Enum
from typing import Any

from ..settings.fields import Known

_SAID_BY_TYPE = ("text", "true or false")


def default_text(value: Any) -> str:
    """A default as it is typed; what cannot be typed is called empty or none."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ",".join(map(default_text, value)) or "empty"
    return str(value) or "empty"


def choices_text(field: Known) -> tuple[str, ...]:
    """The values that a field may have, if these are a few; nothing is none of them."""
    return tuple(str(choice) for choice in field.choices if choice != "")


def limits_text(field: Known) -> str:
    """What a value must be, where its type or its choices do not say it."""
    return "" if field.choices or field.wanted in _SAID_BY_TYPE else field.wanted


def values_text(field: Known) -> str:
    """What a value may be, in words."""
    return " or ".join(choices_text(field)) or field.wanted
