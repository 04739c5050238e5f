"""Bars of several parts, a row for each client, told apart by filling and not by colour alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .markup import element, label, picture, shortened
from .scale import scale_for

WIDTH = 360.0
ROW_HEIGHT = 33.0
BAR_HEIGHT = 13.0
MOST_ROWS = 20
KEY_COLUMNS = 2
KEY_HEIGHT = 16.0
LONGEST_NAME = 36


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row: its name, what each part is, and what is told of it at its end."""

    name: str
    parts: tuple[float, ...]
    end: str


def stacked_bars(
    bars: Sequence[Bar],
    part_names: Sequence[str],
    *,
    part_text: Callable[[float], str],
    description: str,
) -> Markup:
    """Rows of parts that follow each other; of many rows the longest ones."""
    shown = longest(bars)
    top = _key_height(part_names)
    scale = scale_for([sum(bar.parts) for bar in shown], 0.5, WIDTH - 0.5, from_zero=True)
    rows = []
    for number, bar in enumerate(shown):
        y = top + number * ROW_HEIGHT
        rows.append(row_heading(bar.name, bar.end, y))
        start = 0.0
        for kind, (part, name) in enumerate(zip(bar.parts, part_names, strict=True)):
            if part <= 0:
                continue
            width = scale.place(start + part) - scale.place(start)
            rows.append(
                element(
                    "rect",
                    element("title", f"{bar.name}, {name}: {part_text(part)}"),
                    x=scale.place(start),
                    y=y + 16,
                    width=max(width, 0.4),
                    height=BAR_HEIGHT,
                    class_=f"part p{kind}",
                )
            )
            start += part
    height = top + len(shown) * ROW_HEIGHT
    return picture(WIDTH, height, description, _key(part_names), *rows)


def longest(bars: Sequence[Bar]) -> list[Bar]:
    """All of them, in their order; of many the longest."""
    if len(bars) <= MOST_ROWS:
        return list(bars)
    kept = sorted(bars, key=lambda bar: -sum(bar.parts))[:MOST_ROWS]
    return [bar for bar in bars if bar in kept]


def row_heading(name: str, end: str, y: float) -> Markup:
    """A row's name at its left, what is told of it at its right."""
    room = LONGEST_NAME - len(end) + 12
    return label(0, y + 11, shortened(name, room), class_="name") + label(
        WIDTH, y + 11, end, anchor="end", class_="value"
    )


def _key_height(names: Sequence[str]) -> float:
    return KEY_HEIGHT * ((len(names) + KEY_COLUMNS - 1) // KEY_COLUMNS) + 8


def _key(names: Sequence[str]) -> Markup:
    """Which filling is what."""
    parts = []
    for number, name in enumerate(names):
        x = (number % KEY_COLUMNS) * WIDTH / KEY_COLUMNS
        y = (number // KEY_COLUMNS) * KEY_HEIGHT
        parts.append(
            element("rect", x=x + 0.5, y=y + 1, width=14, height=10, class_=f"part p{number}")
        )
        parts.append(label(x + 20, y + 10, name, class_="tick"))
    return Markup("").join(parts)
