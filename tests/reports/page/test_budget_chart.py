"""Memory that was measured lies in what was predicted, and that in what was granted."""

import re

import pytest

from hsplit_flower.reports.page.bar_chart import MOST_ROWS
from hsplit_flower.reports.page.budget_chart import Budget, budget_chart, tightest


def budget(name: str, granted: float, predicted: float, measured: float) -> Budget:
    return Budget(
        name=name,
        granted_bytes=granted,
        predicted_bytes=predicted,
        measured_bytes=measured,
    )


def test_bars_are_as_long_as_their_bytes() -> None:
    drawn = budget_chart([budget("a", 4e8, 3e8, 2e8)], description="memory")
    found = re.findall(r'width="([\d.]+)" height="[\d.]+" class="(\w+)"', drawn)
    widths = {name: float(width) for width, name in found if width != "14"}
    assert widths["predicted"] / widths["granted"] == pytest.approx(0.75, abs=1e-3)
    assert widths["measured"] / widths["granted"] == pytest.approx(0.5, abs=1e-3)
    assert "200 MB, 50 % of granted" in drawn


def test_what_was_not_measured_or_granted_is_not_drawn() -> None:
    drawn = budget_chart([budget("a", 0.0, 3e8, 0.0)], description="memory")
    assert drawn.count('class="granted"') == drawn.count('class="measured"') == 1  # of the key
    assert "300 MB" in drawn


def test_of_many_the_tightest_are_shown() -> None:
    budgets = [budget(str(i), 1e9, 9e8, 1e7 * i) for i in range(1, 61)]
    assert {each.name for each in tightest(budgets)} == {str(i) for i in range(61 - MOST_ROWS, 61)}
