"""Numbers have the digits that mean something, and a unit."""

import math

import pytest

from hsplit_flower.reports.page.numbers import (
    bytes_text,
    count_text,
    listed,
    measure_text,
    seconds_text,
    share_text,
    tick_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5130, "1.513"),
        (1.82, "1.820"),
        (47.47285, "47.47"),
        (123456.0, "123,456"),
        (1234.0, "1234"),
        (3e12, "3.00e+12"),
        (math.inf, "not finite"),
        (None, "–"),
    ],
)
def test_measures(value: float | None, text: str) -> None:
    assert measure_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (1e-5, "< 1 ms"),
        (0.064, "64 ms"),
        (0.5, "0.500 s"),
        (42.0, "42.0 s"),
        (119.0, "119 s"),
        (150.0, "2.50 min"),
        (7200.0, "2.00 h"),
        (math.nan, "not finite"),
        (None, "–"),
    ],
)
def test_seconds(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (17, "17 B"),
        (88e6, "88.0 MB"),
        (1.026e9, "1.03 GB"),
        (125e6, "125 MB"),
        (math.inf, "no bound"),
        (None, "–"),
    ],
)
def test_bytes(number: float | None, text: str) -> None:
    assert bytes_text(number) == text


def test_shares_counts_and_lists() -> None:
    shares = [share_text(share) for share in (0.0, 0.004, 0.0996, 0.5, 1.2, None)]
    assert shares == ["0 %", "0.4 %", "10 %", "50 %", "120 %", "–"]
    assert [count_text(1, "round"), count_text(1200, "round")] == ["1 round", "1,200 rounds"]
    assert [listed(["a"]), listed(["a", "b", "c"])] == ["a", "a, b and c"]
    assert listed(list("abcdefgh"), 2) == "a, b and 6 more"
    assert [tick_text(20.0), tick_text(0.5), tick_text(20000.0)] == ["20", "0.5", "20,000"]
