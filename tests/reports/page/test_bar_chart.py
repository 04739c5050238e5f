"""Bars are as long as their parts, and each part says what it is."""

import re

from hsplit_flower.reports.page.bar_chart import MOST_ROWS, WIDTH, Bar, stacked_bars


def widths(drawn: str, kind: int) -> list[float]:
    """Of the parts of this kind, without its mark in the key."""
    found = re.findall(rf'width="([\d.]+)" height="13" class="part p{kind}"', drawn)
    return [float(width) for width in found]


def drawn(*bars: Bar) -> str:
    return stacked_bars(bars, ("up", "down"), part_text=str, description="bytes")


def test_parts_are_as_long_as_their_values() -> None:
    picture = drawn(Bar(name="a", parts=(3.0, 1.0), end="4"), Bar(name="b", parts=(0, 2), end="2"))
    unit = (WIDTH - 1) / 4
    assert [round(width / unit, 2) for width in widths(picture, 0)] == [3.0]
    assert [round(width / unit, 2) for width in widths(picture, 1)] == [1.0, 2.0]
    assert "a, up: 3.0" in picture


def test_of_many_bars_the_longest_are_shown() -> None:
    bars = [Bar(name=f"site-{i}", parts=(float(i), 1.0), end=str(i)) for i in range(60)]
    picture = drawn(*bars)
    assert len(widths(picture, 1)) == MOST_ROWS
    assert ">site-59<" in picture
    assert ">site-1<" not in picture
