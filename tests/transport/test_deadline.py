"""A call is cancelled when its time is over, and left alone if it ends in time."""

import threading

from hsplit_flower.transport.deadline import deadline


class Call:
    """A call that can be cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


def test_what_ends_in_time_is_left_alone() -> None:
    call = Call()
    with deadline(call, 0.05) as late:
        pass
    assert not call.cancelled.wait(0.1)
    assert not late.is_set()


def test_what_waits_too_long_is_cancelled() -> None:
    call = Call()
    with deadline(call, 0.01) as late:
        assert call.cancelled.wait(10)
    assert late.is_set()


def test_an_error_inside_ends_the_deadline_too() -> None:
    call = Call()
    try:
        with deadline(call, 0.05):
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert not call.cancelled.wait(0.1)
