"""Lines over a common axis, told apart by dash, mark and name, so that colour is not needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .markup import element, label, picture, shortened
from .numbers import measure_text, tick_text
from .scale import Scale, scale_for

WIDTH, HEIGHT = 360.0, 230.0
LEFT, TOP, BOTTOM = 42.0, 22.0, 36.0
NUM_STYLES = 8
MOST_NAMED = 8
LONGEST_NAME = 14
LABEL_DISTANCE = 13.0
CHARACTER_WIDTH = 6.7

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line by its points, from left to right."""

    name: str
    points: tuple[Point, ...]


def line_chart(
    series: Sequence[Series],
    *,
    x_title: str,
    y_title: str,
    description: str,
    y_text: Callable[[float], str] = measure_text,
    x_is_count: bool = False,
    from_zero: bool = False,
    may_be_logarithmic: bool = False,
) -> Markup:
    """The lines with axes; each ends at its name and its last value.

    Of more lines than have names only the highest and the lowest are named, the others are thin.
    """
    series = [each for each in series if each.points]
    named = _named(series)
    ends = {each.name: _end_text(each, y_text, alone=len(series) == 1) for each in named}
    margin = 10 + CHARACTER_WIDTH * max(map(len, ends.values()), default=0)
    x = scale_for([p[0] for each in series for p in each.points], LEFT, WIDTH - margin)
    y = scale_for(
        [point[1] for each in series for point in each.points],
        HEIGHT - BOTTOM,
        TOP,
        from_zero=from_zero,
        may_be_logarithmic=may_be_logarithmic,
    )
    axes = _axes(x, y, x_title=x_title, y_title=y_title, y_text=y_text, x_is_count=x_is_count)
    numbers = {each.name: number for number, each in enumerate(named)}
    lines = [
        _line(each, x, y, numbers.get(each.name), y_text, x_title)
        for each in sorted(series, key=lambda each: each.name in numbers)
    ]
    labels = _labels(named, ends, x, y)
    return picture(WIDTH, HEIGHT, description, axes, *lines, labels)


def _named(series: Sequence[Series]) -> list[Series]:
    if len(series) <= MOST_NAMED:
        return list(series)
    in_order = sorted(series, key=lambda each: each.points[-1][1])
    return [in_order[-1], in_order[0]]


def _end_text(series: Series, y_text: Callable[[float], str], *, alone: bool) -> str:
    last = y_text(series.points[-1][1])
    return last if alone else f"{shortened(series.name, LONGEST_NAME)} {last}"


def _axes(
    x: Scale,
    y: Scale,
    *,
    x_title: str,
    y_title: str,
    y_text: Callable[[float], str],
    x_is_count: bool,
) -> Markup:
    parts = []
    for tick in y.ticks(5):
        at = y.place(tick)
        parts.append(element("line", x1=LEFT, x2=x.stop, y1=at, y2=at, class_="grid"))
        parts.append(label(LEFT - 5, at + 3.5, tick_text(tick), anchor="end", class_="tick"))
    base = HEIGHT - BOTTOM
    for tick in x.ticks(5):
        if x_is_count and tick != int(tick):
            continue
        at = x.place(tick)
        parts.append(element("line", x1=at, x2=at, y1=base, y2=base + 4, class_="axis"))
        text = tick_text(tick)
        parts.append(label(at, base + 15, text, anchor="middle", class_="tick"))
    parts.append(element("line", x1=LEFT, x2=x.stop, y1=base, y2=base, class_="axis"))
    parts.append(label((LEFT + x.stop) / 2, HEIGHT - 6, x_title, anchor="middle", class_="name"))
    by_factors = ", by factors" if y.is_logarithmic else ""
    parts.append(label(2, 11, f"{y_title}{by_factors}", class_="name"))
    return Markup("").join(parts)


def _line(
    series: Series,
    x: Scale,
    y: Scale,
    number: int | None,
    y_text: Callable[[float], str],
    x_title: str,
) -> Markup:
    """A line with a mark at each point, which tells its value when pointed at."""
    places = [(x.place(px), y.place(py)) for px, py in series.points]
    path = element(
        "polyline", points=" ".join(f"{px:.1f},{py:.1f}" for px, py in places), class_="path"
    )
    if number is None:
        return element("g", element("title", series.name), path, class_="line faint")
    marks = [
        element(
            "g",
            element("title", f"{series.name}, {x_title} {point[0]:.4g}: {y_text(point[1])}"),
            _mark(number, *place),
        )
        for point, place in zip(series.points, places, strict=True)
    ]
    # Where marks would touch each other only the last is drawn.
    shown = marks if len(marks) <= 25 else marks[-1:]
    return element("g", path, *shown, class_=f"line s{number % NUM_STYLES}")


def _mark(number: int, x: float, y: float) -> Markup:
    """Circle, square, triangle, diamond; filled first, then hollow."""
    size, kind = 3.2, number % 4
    class_ = "mark" if number % NUM_STYLES < 4 else "mark hollow"
    if kind == 0:
        return element("circle", cx=x, cy=y, r=size, class_=class_)
    corners = (
        [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        [(0, -1.2), (1.2, 1), (-1.2, 1)],
        [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)],
    )[kind - 1]
    points = " ".join(f"{x + size * cx:.1f},{y + size * cy:.1f}" for cx, cy in corners)
    return element("polygon", points=points, class_=class_)


def _labels(named: Sequence[Series], ends: dict[str, str], x: Scale, y: Scale) -> Markup:
    """Names beside the lines' ends, moved apart where they would lie on each other."""
    in_order = sorted(named, key=lambda each: y.place(each.points[-1][1]))
    wanted = [y.place(each.points[-1][1]) for each in in_order]
    places = moved_apart(wanted, LABEL_DISTANCE, low=TOP, high=HEIGHT - BOTTOM)
    parts = []
    numbers = {each.name: number for number, each in enumerate(named)}
    for each, at, line_end in zip(in_order, places, wanted, strict=True):
        number = numbers[each.name] % NUM_STYLES
        end = x.place(each.points[-1][0])
        parts.append(
            element("line", x1=end + 4, y1=line_end, x2=x.stop + 7, y2=at, class_="leader")
        )
        text = label(x.stop + 9, at + 3.5, ends[each.name], class_=f"end t{number}")
        parts.append(text)
    return Markup("").join(parts)


def moved_apart(
    places: Sequence[float], distance: float, *, low: float, high: float
) -> list[float]:
    """Ascending places at least so far apart, near to where they were, within the limits if they
    fit there.
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + distance) if moved else max(place, low))
    limit = high
    for position in reversed(range(len(moved))):
        moved[position] = min(moved[position], limit)
        limit = moved[position] - distance
    return moved
