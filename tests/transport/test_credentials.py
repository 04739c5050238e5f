"""Tokens: what carries them, which is right, and that none is shown."""

import pytest

from hsplit_flower.server.ticket import Ticket
from hsplit_flower.settings import Link, Model, SessionSpec, Trust, Worker
from hsplit_flower.transport.credentials import is_same_token, token_metadata
from hsplit_flower.wire.instructions import Instructions

SECRET = "a secret of some length"


def test_a_token_is_one_entry_of_the_metadata() -> None:
    assert token_metadata("key", "secret") == (("key", "secret"),)


@pytest.mark.parametrize(("got", "is_same"), [("secret", True), ("secret!", False), ("", False)])
def test_a_token_is_the_one_that_is_wanted_or_not(got: str, is_same: bool) -> None:
    assert is_same_token(got, "secret") is is_same
    assert is_same_token("gehëim", "gehëim")


def test_no_secret_is_shown() -> None:
    told = Instructions(
        server_round=1,
        num_examples=1,
        model=Model(),
        link=Link(),
        session=SessionSpec(client=0, cut=1),
        token=SECRET,
    )
    for group in (told, Worker(operator_token=SECRET)):
        assert SECRET not in f"{group!r} {group!s} {group.shown()}"
    ticket = Ticket(worker=0, address="127.0.0.1:1", token=SECRET, trust=Trust())
    assert SECRET not in f"{ticket!r} {ticket!s}"
