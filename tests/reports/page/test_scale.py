"""Places keep the order of values, and ticks lie between the ends."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.reports.page.scale import scale_for

values = st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=20)


@given(values, st.booleans(), st.booleans())
def test_values_lie_within_and_in_order(
    values: list[float], from_zero: bool, may_be_logarithmic: bool
) -> None:
    scale = scale_for(values, 10, 200, from_zero=from_zero, may_be_logarithmic=may_be_logarithmic)
    places = [scale.place(value) for value in sorted(values)]
    assert all(10 - 1e-6 <= place <= 200 + 1e-6 for place in places)
    assert places == sorted(places)


@given(values, st.booleans())
def test_ticks_are_few_and_between_the_ends(values: list[float], may_be_logarithmic: bool) -> None:
    scale = scale_for(values, 10, 200, may_be_logarithmic=may_be_logarithmic)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 40
    step = abs(scale.high - scale.low) * 1e-6
    assert all(scale.low - step <= tick <= scale.high + step for tick in ticks)


def test_an_axis_goes_by_factors_where_the_largest_is_ten_times_the_smallest() -> None:
    assert scale_for([1.5, 47.0], 0, 1, may_be_logarithmic=True).is_logarithmic
    assert not scale_for([1.5, 3.0], 0, 1, may_be_logarithmic=True).is_logarithmic
    assert not scale_for([0.0, 47.0], 0, 1, may_be_logarithmic=True).is_logarithmic


def test_equal_factors_are_equally_far_apart() -> None:
    scale = scale_for([1.0, 100.0], 0, 100, may_be_logarithmic=True)
    places = [scale.place(value) for value in (1.0, 10.0, 100.0)]
    assert math.isclose(places[1] - places[0], places[2] - places[1])


@pytest.mark.parametrize("values", [[], [0.0], [5.0, 5.0]])
def test_a_single_value_has_a_place(values: list[float]) -> None:
    scale = scale_for(values, 0, 100)
    assert 0 <= scale.place(values[0] if values else 0.5) <= 100
