"""A grid of numbers, darker where they are larger; each cell has its number written in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .markup import element, label, picture, shortened

LEAST_WIDTH = 360.0
MOST_CELL_WIDTH = 46.0
LEAST_CELL_WIDTH = 25.0
# Of a digit in a cell, at 10 pixels; the widest fonts of browsers have 6.4.
DIGIT_WIDTH = 6.4
LONGEST_NAME = 15
CHARACTER_WIDTH = 6.4
# A title that is wider than its column stands aslant; this is the sine of 45 degrees.
SLANT = 0.71


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number, or none; a hatched one lies on the other side of something."""

    value: float | None
    text: str
    tip: str = ""
    is_hatched: bool = False


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cell: Callable[[int, int], Cell],
    *,
    corner: str,
    description: str,
    cell_height: float = 18.0,
    from_zero: bool = True,
) -> Markup:
    """Cells by row and column, shaded from the smallest value, or from zero, to the largest.

    ``corner`` says what the names of rows and columns are.
    """
    cells = [[cell(row, column) for column in range(len(columns))] for row in range(len(rows))]
    values = [each.value for line in cells for each in line if each.value is not None]
    low, high = (0.0 if from_zero else min(values, default=0.0)), max(values, default=0.0)
    left = 8 + CHARACTER_WIDTH * max(len(shortened(name, LONGEST_NAME)) for name in [corner, *rows])
    width = min(MOST_CELL_WIDTH, (LEAST_WIDTH - left - 6) / max(len(columns), 1))
    longest = max((len(each.text) for line in cells for each in line), default=0)
    width = max(LEAST_CELL_WIDTH, DIGIT_WIDTH * longest + 4, width)
    titles, top, overhang = _column_titles(columns, left, width)
    parts = [titles, label(0, top - 5, corner, class_="tick")]
    for row, name in enumerate(rows):
        y = top + row * cell_height
        parts.append(
            label(0, y + cell_height / 2 + 4, shortened(name, LONGEST_NAME), class_="name")
        )
        for column, each in enumerate(cells[row]):
            share = _share(each.value, low, high)
            parts.append(_cell(each, left + column * width, y, width, cell_height, share))
    return picture(
        max(left + len(columns) * width + overhang, LEAST_WIDTH),
        top + len(rows) * cell_height + 2,
        description,
        *parts,
    )


def _share(value: float | None, low: float, high: float) -> float | None:
    if value is None:
        return None
    return (value - low) / (high - low) if high > low else 0.0


def _cell(
    cell: Cell, x: float, y: float, width: float, height: float, share: float | None
) -> Markup:
    box = {"x": x + 0.5, "y": y + 0.5, "width": width - 1, "height": height - 1}
    parts = [element("title", cell.tip)] if cell.tip else []
    is_dark = share is not None and not cell.is_hatched and share > 0.62
    if cell.is_hatched:
        parts.append(element("rect", **box, class_="cell hatched"))
    elif share is not None:
        parts.append(
            element("rect", **box, class_="cell", fill_opacity=f"{0.06 + 0.89 * share:.2f}")
        )
    middle = (x + width / 2, y + height / 2 + 3.5)
    parts.append(
        label(*middle, cell.text, anchor="middle", class_="inverse" if is_dark else "inside")
    )
    return element("g", *parts)


def _column_titles(
    columns: Sequence[str], left: float, width: float
) -> tuple[Markup, float, float]:
    """The titles, how much room they take above, and how much at the right."""
    names = [shortened(name, LONGEST_NAME) for name in columns]
    longest = CHARACTER_WIDTH * max(map(len, names), default=0)
    if longest <= width - 2:
        titles = [
            label(left + (number + 0.5) * width, 11, name, anchor="middle", class_="tick")
            for number, name in enumerate(names)
        ]
        return Markup("").join(titles), 16.0, 0.0
    top = 14 + SLANT * longest
    slanted = [
        element(
            "text",
            name,
            transform=f"translate({left + (number + 0.4) * width:.1f} {top - 4:.1f}) rotate(-45)",
            class_="tick",
        )
        for number, name in enumerate(names)
    ]
    return Markup("").join(slanted), top, max(0.0, SLANT * longest - 0.5 * width)
