"""The line that moves: it shows what is done, keeps still where nothing is, and stops."""

import threading
import time

from hsplit_flower.errors import WorkerUnavailableError
from hsplit_flower.server.progress import Progress, bar


def test_bars() -> None:
    assert bar(0, 20) == f"[{'-' * 24}] 0/20 steps"
    assert bar(10, 20) == f"[{'#' * 12}{'-' * 12}] 10/20 steps"
    assert bar(25, 20) == f"[{'#' * 24}] 25/20 steps"
    assert bar(3, None) == bar(3, 0) == "3 steps"


def test_a_line_for_every_change_and_none_without(flower_log: list[str]) -> None:
    counts = iter([0, 2, 2, 5])
    seen = threading.Event()

    def steps_done() -> int:
        try:
            return next(counts)
        except StopIteration:
            seen.set()
            return 5

    progress = Progress(steps_done, interval_seconds=0.005)
    progress.start(3, expected_steps=10)
    assert seen.wait(5.0)
    progress.stop()
    lines = [line for line in flower_log if "round 3" in line]
    assert [line.split("] ")[1].split(" steps")[0] for line in lines] == ["2/10", "5/10"]


def test_a_worker_that_does_not_answer_is_asked_again(flower_log: list[str]) -> None:
    answers = iter([WorkerUnavailableError("busy"), WorkerUnavailableError("busy")])
    seen = threading.Event()

    def steps_done() -> int:
        for error in answers:
            raise error
        seen.set()
        return 4

    progress = Progress(steps_done, interval_seconds=0.005)
    progress.start(1, expected_steps=None)
    assert seen.wait(5.0)
    progress.stop()
    assert any("4 steps" in line for line in flower_log)


def test_it_can_be_stopped_at_any_time_and_started_again() -> None:
    before = threading.active_count()
    progress = Progress(lambda: 1, interval_seconds=60.0)
    progress.stop()
    progress.start(1, expected_steps=1)
    progress.start(2, expected_steps=1)
    started = time.perf_counter()
    progress.stop()
    progress.stop()
    assert time.perf_counter() - started < 5.0
    assert threading.active_count() == before
