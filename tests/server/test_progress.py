"""The bar of a round: few lines where there is no terminal, one that moves where there is one."""

import io
import logging
import threading
import time
from collections.abc import Callable, Iterable

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.common.logger import FLOWER_LOGGER

from benchmarks.tools.threads import ThreadGrid, be_the_server
from hsplit_flower.errors import WorkerUnavailableError
from hsplit_flower.names import ClientNames
from hsplit_flower.server.collection import Task
from hsplit_flower.server.progress import Progress
from hsplit_flower.server.round import OpenRound
from hsplit_flower.server.terminal import terminal
from hsplit_flower.types import ClientInfo, ClientPlan, DeviceProfile, Span
from hsplit_flower.wire.work_done import WorkDone

NAMES = {1: "clinic-a", 2: "clinic-b"}
PROFILE = DeviceProfile(memory_bytes=1.0, flops_per_second=1.0)
PLAN = ClientPlan(span=Span(start=0, stop=1), ranks={})


def opened(server_round: int, *, num_steps: int = 0) -> OpenRound:
    """A round in which each client takes so many steps; 0 where it does not say."""
    client = ClientInfo(profile=PROFILE, num_examples=1, num_steps=num_steps)
    return OpenRound(
        server_round=server_round,
        message_type="train",
        grid=ThreadGrid(None, {}, num_threads=1),  # type: ignore[arg-type]
        started_seconds=0.0,
        worker=PROFILE,
        names=ClientNames(by_client=NAMES),
        tasks={node: Task(plan=PLAN, client=client, budget_bytes=1.0) for node in NAMES},
    )


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def reply_of(node: int, *, has_error: bool = False) -> Message:
    be_the_server()
    asked = Message(RecordDict(), dst_node_id=node, message_type="train")
    content = Error(code=1, reason="it slept") if has_error else RecordDict()
    return Message(content, reply_to=asked)


class Worker:
    """One whose clients take steps as the test says."""

    def __init__(self) -> None:
        self.done = WorkDone()
        self.is_silent = False
        self.num_asked = 0

    def look(self) -> WorkDone:
        self.num_asked += 1
        if self.is_silent:
            raise WorkerUnavailableError("busy")
        return self.done

    def takes(self, *steps: int) -> None:
        """Until it has been seen."""
        num_steps = dict(zip(NAMES, steps, strict=True))
        self.done = WorkDone(num_steps=num_steps, num_tokens=100 * sum(steps))
        seen = self.num_asked + 2
        wait_until(lambda: self.num_asked >= seen)


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def progress(worker: Worker) -> Progress:
    return Progress(worker.look, interval_seconds=0.005)


def rounds(lines: Iterable[str]) -> list[str]:
    return [line.strip() for line in lines if "round 3" in line]


def test_a_line_at_the_half_and_a_full_bar_at_the_end(
    progress: Progress, worker: Worker, flower_log: list[str]
) -> None:
    progress.start(opened(3, num_steps=10))
    for steps in ((1, 1), (4, 4), (6, 6), (9, 9)):
        worker.takes(*steps)
    assert len(rounds(flower_log)) == 1
    progress.answered(reply_of(1))
    progress.answered(reply_of(2, has_error=True))
    progress.stop()
    half, end = rounds(flower_log)
    assert half.startswith("round 3 [##############----------] 60%, 12 steps")
    assert half.endswith("waiting for clinic-a, clinic-b")
    assert end.startswith(f"round 3 [{'#' * 24}] 100%, 18 steps in 0 s")
    assert "tokens/s" in end and end.endswith("; without clinic-b")


def test_a_round_in_which_nothing_moves_is_spoken_of_from_time_to_time(
    progress: Progress, worker: Worker, flower_log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsplit_flower.server.progress.STILL_SECONDS", 0.05)
    worker.is_silent = True
    progress.start(opened(3))
    wait_until(lambda: len(rounds(flower_log)) >= 2)
    progress.stop()
    assert rounds(flower_log)[-1].endswith("0%, waiting for clinic-a, clinic-b")


def test_a_worker_that_does_not_answer_is_asked_again(
    progress: Progress, worker: Worker, flower_log: list[str]
) -> None:
    worker.is_silent = True
    progress.start(opened(3, num_steps=10))
    wait_until(lambda: worker.num_asked >= 2)
    worker.is_silent = False
    worker.takes(2, 2)
    progress.stop()
    assert "4 steps" in rounds(flower_log)[-1]


def test_without_a_worker_replies_are_what_is_known(flower_log: list[str]) -> None:
    progress = Progress(interval_seconds=0.005)
    progress.start(opened(3))
    progress.answered(reply_of(2))
    wait_until(lambda: len(rounds(flower_log)) == 1)
    progress.stop()
    assert rounds(flower_log)[0].endswith("waiting for clinic-a")
    assert "] 50%" in rounds(flower_log)[0]


def test_who_has_answered_through_a_grid_of_ones_own_is_not_missing(
    progress: Progress, worker: Worker, flower_log: list[str]
) -> None:
    progress.start(opened(3, num_steps=10))
    worker.takes(10, 10)
    progress.stop([reply_of(1), reply_of(2)])
    assert "without" not in rounds(flower_log)[-1]


def test_replies_are_noticed_while_flower_waits_for_the_others(
    progress: Progress, worker: Worker, flower_log: list[str]
) -> None:
    class OneByOne(ThreadGrid):
        """Waits as Flower's own grids do."""

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            return [reply_of(1)]

        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterable[Message]:
            return self.pull_messages([])

    grid = OneByOne(None, {}, num_threads=1)  # type: ignore[arg-type]
    with progress.watching(grid):
        progress.start(opened(3, num_steps=10))
        (reply,) = grid.send_and_receive([])
        assert reply.metadata.src_node_id == 1
        wait_until(lambda: len(rounds(flower_log)) == 1)
        progress.stop()
    assert "waiting for clinic-b" in rounds(flower_log)[0]
    assert "pull_messages" not in vars(grid)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen() -> Iterable[Terminal]:
    """Flower's log goes to a terminal."""
    shown = Terminal()
    handler = logging.StreamHandler(shown)
    FLOWER_LOGGER.addHandler(handler)
    yield shown
    FLOWER_LOGGER.removeHandler(handler)


def test_on_a_terminal_one_line_moves_and_one_stays(
    progress: Progress, worker: Worker, screen: Terminal
) -> None:
    assert terminal() is screen
    progress.start(opened(3, num_steps=10))
    for steps in ((1, 1), (4, 4), (6, 6)):
        worker.takes(*steps)
    progress.stop()
    shown = screen.getvalue()
    assert "round 3 [#####" in shown and "waiting for clinic-a" in shown
    # What moved is taken off, and a line of the log is in its place.
    gone, _, left = shown.rpartition("\x1b[2K")
    assert "60%" in gone and left.startswith(f"\tround 3 [{'#' * 24}] 100%, 12 steps")


def test_a_terminal_whose_output_is_sent_on_is_none(screen: Terminal) -> None:
    """As a SuperLink does with its ServerApps, wherever it was started."""
    original = screen.write
    screen.write = lambda text: original(text)  # type: ignore[method-assign]
    assert terminal() is None


def test_it_can_be_stopped_at_any_time_and_started_again() -> None:
    before = threading.active_count()
    progress = Progress(WorkDone, interval_seconds=60.0)
    progress.stop()
    progress.start(opened(1))
    progress.start(opened(2))
    started = time.perf_counter()
    progress.stop()
    progress.stop()
    assert time.perf_counter() - started < 5.0
    assert threading.active_count() == before
