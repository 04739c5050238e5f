"""Sessions are found by their token alone, and are gone when nobody calls."""

import pytest
import torch

from hsplit_flower.adapters import Active
from hsplit_flower.errors import AuthenticationError, WorkerRejectedError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.transport.traffic import PREFIX_BYTES
from hsplit_flower.wire.messages import Backward, Forward, Loss
from hsplit_flower.wire.work_done import WorkDone
from hsplit_flower.worker.session import Session, Sessions


class Clock:
    """Seconds that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(max_sessions=2, timeout_seconds=10.0, clock=clock)


def _session(client: int = 0) -> Session:
    return Session(
        spec=SessionSpec(client=client, cut=1, in_flight=2, round_timeout_seconds=100.0),
        active=Active(terms={}),
        trainables={},
        optimizer=None,
    )


def test_a_session_is_found_by_its_token(sessions: Sessions) -> None:
    first, second = _session(1), _session(2)
    tokens = sessions.add(first), sessions.add(second)
    assert sessions.find(tokens[0]) is first
    assert sessions.find(tokens[1]) is second
    assert tokens[0] != tokens[1]
    assert min(map(len, tokens)) >= 43, "32 bytes at least"
    assert len(sessions) == 2


@pytest.mark.parametrize("token", [None, "", "wrong", "ключ", "a" * 10_000])
def test_another_token_finds_nothing(sessions: Sessions, token: str | None) -> None:
    sessions.add(_session())
    with pytest.raises(AuthenticationError, match="missing, wrong, or its session is closed"):
        sessions.find(token)


def test_part_of_a_token_finds_nothing(sessions: Sessions) -> None:
    token = sessions.add(_session())
    for part in (token[:-1], token[1:], token + "a", token.swapcase()):
        with pytest.raises(AuthenticationError):
            sessions.find(part)


def test_a_session_that_is_not_heard_of_is_gone(sessions: Sessions, clock: Clock) -> None:
    token = sessions.add(_session())
    sessions.find(token)
    clock.now += 10.0
    sessions.find(token)
    clock.now += 10.1
    with pytest.raises(AuthenticationError, match="timed out"):
        sessions.find(token)


def test_a_session_waits_for_its_client_while_the_round_may_last(
    sessions: Sessions, clock: Clock
) -> None:
    """And the time of silence longer, in which the strategy may ask for it."""
    in_time, too_late = sessions.add(_session(1)), sessions.add(_session(2))
    clock.now += 109.9
    sessions.find(in_time)
    clock.now += 0.2
    with pytest.raises(AuthenticationError, match="timed out"):
        sessions.find(too_late)
    clock.now += 9.9
    with pytest.raises(AuthenticationError, match="timed out"):
        sessions.find(in_time)


def test_a_session_whose_client_said_goodbye_waits_for_the_round_to_end(
    sessions: Sessions, clock: Clock
) -> None:
    token = sessions.add(_session())
    sessions.find(token)
    sessions.say_goodbye(token)
    clock.now += 109.9
    sessions.find(token)
    clock.now += 5.0
    sessions.say_goodbye(token)
    clock.now += 9.9
    assert len(sessions) == 1, "the round is over, and it was heard of since"
    clock.now += 0.2
    assert len(sessions) == 0
    sessions.say_goodbye(token)
    assert len(sessions) == 0, "nobody comes back from a goodbye"


def test_a_session_that_is_gone_is_not_counted(sessions: Sessions, clock: Clock) -> None:
    """Else a client that never came back would keep the next round's update out."""
    sessions.find(sessions.add(_session(1)))
    clock.now += 6
    sessions.find(sessions.add(_session(2)))
    clock.now += 6
    assert sessions.work_done().num_steps == {2: 0}
    assert len(sessions) == 1


def test_every_call_is_a_sign_of_life(sessions: Sessions, clock: Clock) -> None:
    token = sessions.add(_session())
    for _ in range(5):
        clock.now += 9.9
        sessions.find(token)
    assert len(sessions) == 1


def test_no_more_than_the_limit_are_open(sessions: Sessions, clock: Clock) -> None:
    token = sessions.add(_session())
    sessions.add(_session())
    with pytest.raises(WorkerRejectedError, match="2 sessions are open, no more are allowed"):
        sessions.add(_session())
    sessions.remove(token)
    sessions.add(_session())
    clock.now += 111
    sessions.add(_session())
    assert len(sessions) == 1


def test_closing_twice_is_no_error(sessions: Sessions) -> None:
    token = sessions.add(_session())
    sessions.remove(token)
    sessions.remove(token)
    assert len(sessions) == 0


def test_steps_and_bytes_are_counted_by_client(sessions: Sessions) -> None:
    first, second = _session(7), _session(9)
    sessions.add(first)
    sessions.add(second)
    first.num_steps, first.num_tokens, second.num_tokens = 3, 20, 4
    first.meter.sent(100)
    first.meter.received(10)
    assert sessions.work_done() == WorkDone(
        num_steps={7: 3, 9: 0},
        num_tokens=24,
        up_bytes={7: 100 + PREFIX_BYTES, 9: 0},
        down_bytes={7: 10 + PREFIX_BYTES, 9: 0},
    )


def _forward(step: int, micro_batch: int = 0, value: float = 0.0) -> Forward:
    return Forward(step=step, hidden=torch.full((1, 2, 4), value), micro_batch=micro_batch)


def test_only_the_last_steps_replies_are_remembered() -> None:
    session = _session()
    for step in (1, 2, 3):
        reply = Loss(step=step, loss_sum=0.0, num_tokens=1)
        session.remember(_forward(step), reply)
        session.remember(Backward(step=step, gradient=torch.zeros(1, 2, 4)), reply)
    assert set(session.last_replies) == {(3, 0, "Forward"), (3, 0, "Backward")}


def test_replies_that_the_client_must_have_read_are_forgotten() -> None:
    session = _session()
    for number in range(1000):
        reply = Loss(step=1, loss_sum=0.0, num_tokens=1, micro_batch=number)
        session.remember(_forward(1, number), reply)
    assert set(session.last_replies) == {(1, 998, "Forward"), (1, 999, "Forward")}


def test_a_number_that_comes_again_with_another_content_is_refused() -> None:
    session, reply = _session(), Loss(step=1, loss_sum=0.0, num_tokens=1)
    session.remember(_forward(1), reply)
    assert session.repeated(_forward(1)) is reply
    assert session.repeated(_forward(2)) is None
    with pytest.raises(WorkerRejectedError, match=r"step 1, micro-batch 0, .* another content"):
        session.repeated(_forward(1, value=1e-30))
