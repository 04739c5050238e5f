"""Numbers as people read them: digits enough to tell two budgets apart, times, bars."""

import math

import pytest

from hsplit_flower.errors import OutOfBudgetError
from hsplit_flower.sizes import bar, counted, size_text, time_text


@pytest.mark.parametrize(
    ("number_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234.0, "1.234 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1 MB"),
        (29_055_680, "29.06 MB"),
        (5e9, "5 GB"),
        (8_589_934_592, "8.59 GB"),
        (1.5e12, "1.5 TB"),
        (2e15, "2000 TB"),
        (-3e6, "-3 MB"),
        (math.inf, "any number of bytes"),
    ],
)
def test_a_size_is_told_in_its_largest_unit(number_bytes: float, text: str) -> None:
    assert size_text(number_bytes) == text


def test_an_exceeded_budget_is_told_in_words_and_kept_exactly() -> None:
    error = OutOfBudgetError(predicted_bytes=3e9, measured_bytes=5_000_000_001, budget_bytes=4.5e9)
    told = "needed at least 5 GB, predicted were 3 GB, the budget is 4.5 GB"
    assert str(error).startswith(told)
    assert error.measured_bytes == 5_000_000_001


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119.0, "119 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 5 min")],
)
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_bars() -> None:
    assert bar(0.0) == f"[{'-' * 24}]" == bar(-1.0)
    assert bar(0.5) == f"[{'#' * 12}{'-' * 12}]"
    assert bar(1.0) == f"[{'#' * 24}]" == bar(3.0)


def test_one_is_counted_without_an_s() -> None:
    assert [counted(number, "column") for number in (0, 1, 2)] == [
        "0 columns",
        "1 column",
        "2 columns",
    ]
