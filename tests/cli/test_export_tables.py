"""Shares and changes in words."""

import pytest

from hsplit_flower.cli.export_tables import change_text, share_text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100 %"),
        (0.5, "50.0 %"),
        (0.987654, "98.8 %"),
        (0.99876, "99.88 %"),
        (0.99998, "99.9980 %"),
        (1 - 1e-9, "> 99.9999 %"),
        (0.0, "0.0 %"),
    ],
)
def test_a_share_has_the_digits_that_tell_it_from_all(share: float, text: str) -> None:
    assert share_text(share) == text


def test_a_change_is_told_in_percent() -> None:
    assert change_text(1.595, 1.668) == "1.595 -> 1.668 (+4.6 %)"
    assert change_text(2.0, 2.0) == "2 -> 2 (+0 %)"
