"""One thread runs everything; results and exceptions travel back to who asked."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch

from hsplit_flower.errors import WorkerRejectedError, WorkerUnavailableError
from hsplit_flower.worker.executor import Executor
from hsplit_flower.worker.scheduler import Demand


@pytest.fixture
def executor() -> Iterator[Executor]:
    made = Executor()
    yield made
    made.stop()


class Busy:
    """Holds the executor's thread until it is let go."""

    def __init__(self, executor: Executor) -> None:
        self._started, self._release = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=8)
        self.held = self._pool.submit(executor.call, self._hold)
        assert self._started.wait(10)
        self._executor = executor

    def _hold(self) -> str:
        self._started.set()
        assert self._release.wait(10)
        return "held"

    def put(self, run: Callable[[], object]) -> "object":
        """Put a task into the queue from another thread; give its future once it waits there."""
        before = len(self._executor._queue)
        future = self._pool.submit(self._executor.call, run)
        while len(self._executor._queue) == before and not future.done():
            threading.Event().wait(0.001)
        return future

    def let_go(self) -> None:
        self._release.set()

    def end(self) -> None:
        self.let_go()
        self._pool.shutdown()


@pytest.fixture
def busy(executor: Executor) -> Iterator[Busy]:
    made = Busy(executor)
    yield made
    made.end()


def test_a_result_comes_back(executor: Executor) -> None:
    assert executor.call(lambda: 7) == 7
    assert executor.call(lambda: None) is None


def test_everything_runs_in_one_thread_that_is_not_the_callers(executor: Executor) -> None:
    with ThreadPoolExecutor(max_workers=4) as pool:
        threads = list(pool.map(lambda _: executor.call(threading.get_ident), range(3)))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize("error", [ValueError("theirs"), SystemExit(3), KeyboardInterrupt()])
def test_an_exception_comes_back_and_the_thread_goes_on(
    executor: Executor, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        executor.call(fail)
    assert caught.value is error
    assert executor.call(lambda: 7) == 7


def test_gradients_are_on_whatever_the_caller_or_the_task_before_it_said(
    executor: Executor,
) -> None:
    with torch.no_grad():
        assert executor.call(torch.is_grad_enabled)
    executor.call(lambda: torch.set_grad_enabled(False))
    assert executor.call(torch.is_grad_enabled)


def test_tasks_run_in_the_order_in_which_they_came(executor: Executor, busy: Busy) -> None:
    order: list[int] = []
    futures = [busy.put(lambda number=number: order.append(number)) for number in range(3)]
    busy.let_go()
    for future in futures:
        future.result(10)
    assert order == [0, 1, 2]


def test_an_owner_has_no_more_waiting_than_it_was_granted(executor: Executor, busy: Busy) -> None:
    def put(owner: str, key: int) -> "Future[str]":
        return executor.submit(lambda: "done", owner=owner, key=key, max_waiting=3)

    futures = [put("one", key) for key in range(3)]
    with pytest.raises(WorkerRejectedError, match="3 requests of this session are waiting, 3 were"):
        put("one", 3)
    futures += [executor.submit(lambda: "done", owner="one"), put("another", 0)]
    busy.let_go()
    assert [future.result(10) for future in futures] == ["done"] * 5
    assert put("one", 3).result(10) == "done"


def test_as_many_may_wait_as_there_are_owners(executor: Executor, busy: Busy) -> None:
    futures = [executor.submit(int, owner=number, key=1) for number in range(1000)]
    futures += [executor.submit(int) for _ in range(1000)]
    busy.let_go()
    assert [future.result(10) for future in futures] == [0] * 2000


def test_what_comes_again_while_it_waits_is_run_once(executor: Executor, busy: Busy) -> None:
    runs: list[str] = []

    def put(owner: str) -> "Future[str]":
        return executor.submit(lambda: runs.append(owner), owner=owner, key="same")

    waiting = [put("one"), put("one"), put("another")]
    assert waiting[0] is waiting[1]
    busy.let_go()
    for future in waiting:
        future.result(10)
    assert runs == ["one", "another"]
    put("one").result(10)
    assert runs == ["one", "another", "one"]


def test_stopping_ends_the_running_task_and_refuses_the_waiting_ones(
    executor: Executor, busy: Busy
) -> None:
    waiting = busy.put(lambda: "never run")
    stopping = threading.Thread(target=executor.stop)
    stopping.start()
    with pytest.raises(WorkerUnavailableError, match="split worker is stopping"):
        waiting.result(10)
    assert not busy.held.done()
    busy.let_go()
    stopping.join(10)
    assert busy.held.result(10) == "held"
    with pytest.raises(WorkerUnavailableError, match="split worker is stopping"):
        executor.call(lambda: "too late")


def test_stopping_twice_is_no_error() -> None:
    executor = Executor()
    executor.stop()
    executor.stop()


def _double(works: list[int]) -> list[object]:
    return [ValueError(f"not {work}") if work < 0 else 2 * work for work in works]


GROUP = Demand(group="any", num_rows=1, num_positions=1)


def test_what_waits_is_run_together_and_each_gets_its_own() -> None:
    sizes: list[int] = []

    def run_together(works: list[int]) -> list[object]:
        sizes.append(len(works))
        return _double(works)

    executor = Executor(run_together=run_together)
    busy = Busy(executor)
    futures = [executor.submit(work, owner=work, demand=GROUP) for work in (1, -2, 3)]
    busy.end()
    assert futures[0].result(10) == 2
    with pytest.raises(ValueError, match="not -2"):
        futures[1].result(10)
    assert futures[2].result(10) == 6
    assert sizes == [3]
    executor.stop()


def test_work_of_one_owner_is_run_in_its_order() -> None:
    batches: list[list[int]] = []

    def run_together(works: list[int]) -> list[int]:
        batches.append(list(works))
        return works

    executor = Executor(run_together=run_together)
    busy = Busy(executor)
    for work in (10, 11, 12):
        executor.submit(work, owner="one", demand=GROUP)
    last = executor.submit(20, owner="two", demand=GROUP)
    alone = [executor.submit(lambda: batches.append([13]), owner="one")]
    busy.end()
    for future in (last, *alone):
        future.result(10)
    assert batches == [[10, 20], [11], [12], [13]]
    executor.stop()


def test_an_error_of_the_whole_batch_comes_back_to_all_of_it() -> None:
    def run_together(works: list[int]) -> list[int]:
        raise RuntimeError("all of it")

    executor = Executor(run_together=run_together)
    busy = Busy(executor)
    futures = [executor.submit(work, owner=work, demand=GROUP) for work in (1, 2)]
    busy.end()
    for future in futures:
        with pytest.raises(RuntimeError, match="all of it"):
            future.result(10)
    assert executor.call(lambda: 7) == 7
    executor.stop()


def _brief() -> Demand:
    return Demand(group="next tokens", num_rows=1, num_positions=1, is_brief=True)


def test_who_shared_a_pass_is_waited_for_a_moment() -> None:
    """One comes back at once and the other a little later: they share the next pass, too."""
    passes: list[Sequence[str]] = []
    is_first_over = threading.Event()

    def run(work: Sequence[str]) -> Sequence[str]:
        passes.append(tuple(work))
        # Long enough that a quarter of it is more than what a busy machine makes of a pause.
        threading.Event().wait(1.2 if len(passes) == 1 else 0.0)
        return work

    executor = Executor(run_together=run)
    try:
        busy = executor.submit(lambda: is_first_over.wait(10))
        before = [executor.submit(name, owner=name, demand=_brief()) for name in ("a", "b")]
        is_first_over.set()
        busy.result(10)
        for future in before:
            future.result(10)
        first = executor.submit("a", owner="a", demand=_brief())
        threading.Event().wait(0.02)
        second = executor.submit("b", owner="b", demand=_brief())
        assert [first.result(10), second.result(10)] == ["a", "b"]
        assert passes[-1] == ("a", "b")
        lonely = executor.submit("a", owner="a", demand=_brief())
        assert lonely.result(10) == "a", "nobody is waited for longer than a moment"
    finally:
        executor.stop()
