"""Numbers as people read them; imports nothing of ours."""

import math

DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB")
BAR_WIDTH = 24


def size_text(number_bytes: float) -> str:
    """A number of bytes in the largest unit of which there is one, to four digits.

    Units are powers of ten, as those of budgets are: 1 GB is 10⁹ bytes.
    """
    if math.isinf(number_bytes):
        return "any number of bytes"
    value, unit = number_bytes, DECIMAL_UNITS[0]
    for unit in DECIMAL_UNITS:
        # What four digits would round up to the next unit is told in that one.
        if abs(value) < 999.95:
            break
        value /= 1e3 if unit != DECIMAL_UNITS[-1] else 1.0
    return f"{value:.4g} {unit}"


def digits_text(value: float) -> str:
    """A measurement with three digits, or with all that are before its point."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def counted(number: int, what: str) -> str:
    """``1 column``, ``2 columns``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def time_text(seconds: float) -> str:
    """``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def bar(share: float) -> str:
    """``[############------------]`` for a half."""
    filled = round(BAR_WIDTH * min(1.0, max(0.0, share)))
    return f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}]"
