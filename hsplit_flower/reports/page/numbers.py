"""Numbers as people read them: the digits that mean something, and a unit."""

import math
from collections.abc import Sequence

from ...sizes import size_text

NONE = "–"
"""What stands where there is no number."""


def measure_text(value: float | None, digits: int = 4) -> str:
    """A measured number to so many digits."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "not finite"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.2e}"
    return f"{value:#.{digits}g}".removesuffix(".")


def tick_text(value: float) -> str:
    """A round value beside an axis."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:g}"


def seconds_text(seconds: float | None) -> str:
    """A duration to three digits, in its largest unit of which there are two."""
    if seconds is None:
        return NONE
    if not math.isfinite(seconds):
        return "not finite"
    if 0 < abs(seconds) < 5e-4:
        return "< 1 ms"
    for unit, size, least in (("h", 3600.0, 2.0), ("min", 60.0, 2.0), ("s", 1.0, 0.1)):
        if abs(seconds) >= least * size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{1e3 * seconds:.0f} ms" if seconds else "0 s"


def bytes_text(number_bytes: float | None) -> str:
    """A number of bytes to three digits."""
    if number_bytes is None:
        return NONE
    if not math.isfinite(number_bytes):
        return "no bound"
    if not number_bytes:
        return "0 B"
    value, _, unit = size_text(number_bytes).partition(" ")
    if unit == "B":
        return f"{float(value):.0f} B"
    return f"{_digits(float(value))} {unit}"


def share_text(share: float | None) -> str:
    """A share as a percentage to two digits."""
    if share is None or not math.isfinite(share):
        return NONE
    percent = 100 * share
    return f"{percent:.0f} %" if abs(percent) >= 9.95 or not percent else f"{percent:.2g} %"


def count_text(number: int, noun: str) -> str:
    """``1 round``, ``3 rounds``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Sequence[str], most: int = 6) -> str:
    """``a, b and c``; of many the first ones and how many more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _digits(value: float) -> str:
    """To three digits; whole numbers as they are."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"
