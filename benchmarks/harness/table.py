"""A benchmark's figures as aligned text, one line each as they come."""

from collections.abc import Mapping
from typing import Final

from benchmarks.harness.figures import Figure

WIDTHS: Final = (44, 14, 12, 12, 8)
REACHED: Final[Mapping[bool | None, str]] = {None: "-", True: "yes", False: "NO"}


def header() -> str:
    """The names of the columns, and a rule below them."""
    names = _aligned("figure", "value", "unit", "target", "reached")
    return f"{names}\n{'-' * len(names)}"


def row(figure: Figure) -> str:
    """One figure, its spread (if it has one) in brackets behind."""
    target = "-" if figure.target is None else str(figure.target)
    line = _aligned(
        figure.name, f"{figure.value:.6g}", figure.unit, target, REACHED[figure.reached]
    )
    if figure.spread is None:
        return line
    spread = figure.spread
    return f"{line}  [{spread.minimum:.4g} .. {spread.maximum:.4g}, {spread.repeats} repeats]"


def _aligned(name: str, value: str, unit: str, target: str, reached: str) -> str:
    name_width, value_width, *widths = WIDTHS
    rest = (f"{text:<{width}}" for text, width in zip((unit, target, reached), widths, strict=True))
    return f"{name:<{name_width}}{value:>{value_width}}  {''.join(rest)}".rstrip()
