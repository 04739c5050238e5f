"""How far a round is: shares, whom it waits for, and the words of both."""

import pytest

from hsplit_flower.server.round_steps import (
    Pace,
    RoundSteps,
    at_the_end,
    under_way,
)
from hsplit_flower.wire.work_done import WorkDone

NAMES = {1: "clinic-a", 2: "clinic-b", 3: "bank", 4: "home"}
KNOWN = RoundSteps(server_round=2, names=NAMES, expected=dict.fromkeys(NAMES, 10))


def work(*num_steps: int, num_tokens: int = 0) -> WorkDone:
    return WorkDone(num_steps=dict(zip(NAMES, num_steps, strict=False)), num_tokens=num_tokens)


def test_the_share_is_that_of_all_steps_where_they_are_known() -> None:
    assert KNOWN.share == 0.0
    assert KNOWN.with_work(work(10, 5, 5, 0)).share == pytest.approx(0.5, abs=0.01)
    assert KNOWN.with_work(work(10, 10, 10, 10)).share < 1.0, "no reply is there"
    more = KNOWN.with_work(work(40, 0, 0, 0))
    assert more.share < 0.26, "who takes more steps than it said does not stand for others"


def test_in_the_first_round_those_that_are_done_say_how_long_it_is() -> None:
    unknown = RoundSteps(server_round=1, names=NAMES).with_work(work(6, 3, 3, 0))
    assert unknown.share == 0.0
    assert unknown.with_answer(1, is_result=True).share == pytest.approx((1 + 0.5 + 0.5) / 4)


def test_it_becomes_full_although_a_client_has_dropped_out() -> None:
    now = KNOWN.with_work(work(10, 10, 10, 2))
    for node in (1, 2, 3):
        now = now.with_answer(node, is_result=True)
    assert now.share < 1.0 and now.waited_for == ["home"]
    now = now.with_answer(4, is_result=False).with_answer(99, is_result=True)
    assert now.share == 1.0 and now.waited_for == []
    assert at_the_end(now, Pace(), 12.4) == "100%, 32 steps in 12 s; without home"


def test_who_never_answers_is_not_with_it_in_the_end() -> None:
    now = KNOWN.with_work(work(10)).with_answer(1, is_result=True)
    told = at_the_end(now, Pace(tokens_per_second=1234.5), 130.0)
    assert told == "100%, 10 steps in 2 min 10 s, 1234 tokens/s; without bank, clinic-b, home"


def test_pace_and_what_is_left() -> None:
    first = KNOWN.with_work(work(1, 1, 1, 1, num_tokens=100))
    now = KNOWN.with_work(work(6, 6, 6, 6, num_tokens=600))
    pace = Pace.between(first, now, 10.0)
    assert pace.tokens_per_second == pytest.approx(50.0)
    assert pace.left_seconds == pytest.approx(8.0)
    assert Pace.between(first, first, 10.0) == Pace()
    assert Pace.between(first, now, 0.0) == Pace()
    assert under_way(now, pace) == (
        "60%, 24 steps, 50.0 tokens/s, 8 s left, waiting for bank, clinic-a, clinic-b and 1 more"
    )
