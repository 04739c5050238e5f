"""Lines end at their names, none of which lies on another."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.reports.page.line_chart import MOST_NAMED, Series, line_chart, moved_apart
from tests.reports.page.reader import read_page


@given(st.lists(st.floats(0, 100), max_size=9).map(sorted))
def test_places_are_moved_apart_and_stay_within(places: list[float]) -> None:
    moved = moved_apart(places, 10, low=0, high=100)
    gaps = [later - earlier for earlier, later in pairwise(moved)]
    assert all(gap >= 10 - 1e-9 for gap in gaps)
    assert all(-1e-9 <= place <= 100 for place in moved)


def test_places_that_are_far_apart_stay() -> None:
    assert moved_apart([5, 30, 70], 10, low=0, high=100) == [5, 30, 70]


def chart(num_lines: int, num_points: int = 4) -> str:
    lines = [
        Series(name=f"site-{i}", points=tuple((x, 10.0 + i / (1 + x)) for x in range(num_points)))
        for i in range(num_lines)
    ]
    return line_chart(lines, x_title="round", y_title="loss", description="all")


def test_each_line_has_its_name_and_last_value_its_own_dash_and_mark() -> None:
    drawn = chart(5)
    assert "site-4 11.00" in read_page(drawn).text
    assert all(f'class="line s{number}"' in drawn for number in range(5))
    assert drawn.count("<circle") == 2 * 4  # the first and the fifth
    assert 'class="mark hollow"' in drawn


def test_of_many_lines_the_highest_and_the_lowest_are_named() -> None:
    drawn = chart(MOST_NAMED + 4)
    assert drawn.count('class="line faint"') == MOST_NAMED + 2
    assert "site-11 12.75" in read_page(drawn).text
    assert "site-0 10.00" in read_page(drawn).text


def test_of_many_points_only_the_last_is_marked() -> None:
    assert chart(1, 26).count("<circle") == 1


def test_a_line_without_points_is_left_out() -> None:
    series = [Series(name="a", points=((0, 1.0),)), Series(name="none", points=())]
    drawn = line_chart(series, x_title="round", y_title="loss", description="one")
    assert "none" not in drawn
