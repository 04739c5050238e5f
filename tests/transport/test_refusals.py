"""What is refused is let go of, and says little, on one line, a few times."""

import gc
import logging
import weakref

import pytest
import torch

from hsplit_flower.errors import CodecError
from hsplit_flower.transport.refusals import MOST_TOLD, Refusal, RefusalLog, let_go


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_refusal_is_one_escaped_line_that_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="hsplit_flower"):
        RefusalLog().note("ipv4:10.0.0.7:40000", "no\nINFO all is well\x1b[2J" + "x" * 100_000)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(r"refused to ipv4:10.0.0.7:40000: no\nINFO all is well\x1b[2Jxx")
    assert line.isprintable()
    assert len(line) < 1200
    assert "(100023 characters)" in line


def test_refusals_without_end_leave_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = RefusalLog(most_lines=3, period_seconds=10.0, clock=clock)
    with caplog.at_level(logging.INFO, logger="hsplit_flower"):
        for _ in range(1000):
            log.note("somebody", "no")
        clock.now = 10.0
        log.note("somebody", "still no")
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        *["refused to somebody: no"] * 3,
        "refused 997 more calls, which have no line here",
        "refused to somebody: still no",
    ]


def test_what_is_told_is_cut() -> None:
    assert len(Refusal.of(CodecError("x" * 100_000)).details) == MOST_TOLD


def test_what_a_refused_request_held_is_free_at_once() -> None:
    """Without the collector, though the frame holds the error, and the error its frame."""

    def refuse(request: torch.Tensor) -> CodecError:
        kept = []
        try:
            try:
                raise ValueError(request.shape)
            except ValueError as error:
                kept.append(error)
                raise CodecError("refused") from error
        except CodecError as error:
            kept.append(error)
            return error

    gc.collect()
    gc.disable()
    try:
        request = torch.zeros(10)
        held = weakref.ref(request)
        error = refuse(request)
        del request
        assert held() is not None, "there is something to let go of"
        let_go(error)
        assert held() is None
    finally:
        gc.enable()
    assert str(error) == "refused"
