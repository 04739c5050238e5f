"""A client's error as Flower's text, and back."""

import pytest

from hsplit_flower.errors import (
    CertificateError,
    DataError,
    HSplitError,
    NoCardError,
    OutOfBudgetError,
    WorkerUnavailableError,
)
from hsplit_flower.wire.error_text import read_error, signature, signed, write_error


def test_an_exceeded_budget_comes_back_with_its_bytes() -> None:
    error = OutOfBudgetError(predicted_bytes=1e9, measured_bytes=1.5e9, budget_bytes=1.25e9)
    back = read_error(write_error(error))
    assert isinstance(back, OutOfBudgetError)
    assert vars(back) == vars(error)
    assert str(back) == str(error)


@pytest.mark.parametrize("kind", [NoCardError, WorkerUnavailableError, CertificateError])
def test_what_the_strategy_learns_from_comes_back_as_such(kind: type[HSplitError]) -> None:
    back = read_error(write_error(kind("Ray has 0 here: start it with cards")))
    assert type(back) is kind
    assert str(back) == "Ray has 0 here: start it with cards"


@pytest.mark.parametrize(
    "reason",
    [
        write_error(DataError("no batches")),
        "OutOfBudgetError: but without the bytes",
        "OutOfBudgetError[predicted-bytes=-1 measured-bytes=x budget-bytes=1]: made up",
        f"OutOfBudgetError[predicted-bytes=1 measured-bytes={'9' * 400} budget-bytes=1]: too much",
        "",
    ],
)
def test_anything_else_comes_back_as_words(reason: str) -> None:
    back = read_error(reason)
    assert type(back) is HSplitError
    assert str(back) == reason


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("DataError: none\nWARNING: forged\r\x1b[2J", r"DataError: none\nWARNING: forged\r\x1b[2J"),
        ("x" * 2**20, f"{'x' * 1000}… ({2**20} characters)"),
    ],
    ids=["several lines", "a megabyte"],
)
def test_words_of_a_client_become_one_line_and_not_a_long_one(reason: str, shown: str) -> None:
    assert str(read_error(reason)) == shown
    known = read_error(f"NoCardError: {reason}")
    assert type(known) is NoCardError
    assert str(known).isprintable()
    assert len(str(known)) <= len(shown)


def test_a_reason_may_say_whose_it_is() -> None:
    assert signature(signed("no model", "clinic-a")) == ("no model", "clinic-a")
    assert signature("no model") == ("no model", "")
    forged = signed("no model", "a\x1b[2J" + "x" * 99)
    assert signature(forged)[0] in {"no model", forged}
    assert "\x1b" not in forged
