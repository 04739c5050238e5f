"""A worker as its callers see it: sessions by token, one update for all of them, limits."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from hsplit_flower.errors import (
    AdapterError,
    AuthenticationError,
    NonFiniteError,
    SplitError,
    WorkerRejectedError,
    WorkerUnavailableError,
)
from hsplit_flower.settings import SessionSpec
from hsplit_flower.settings.worker import MAX_SESSIONS
from hsplit_flower.splitting import Checkpoint
from hsplit_flower.splitting.base_reading import digest_of
from hsplit_flower.types import WorkerDescription
from hsplit_flower.wire.base_text import base_to_text
from hsplit_flower.wire.fingerprint import fingerprint_of_updates
from hsplit_flower.wire.messages import Forward, Loss
from hsplit_flower.worker import Sessions, SplitWorker
from tests.families import NUM_BLOCKS, checkpoint, fields
from tests.rounds import global_update, ranks
from tests.tolerances import assert_same
from tests.worker.test_session import Clock
from tests.workers import load_worker, split_worker

FAMILY = "llama"
SPEC = SessionSpec(client=3, cut=2, ranks=ranks(FAMILY), learning_rate=1e-2)
FORWARD = Forward(
    step=1,
    hidden=torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(0)),
    labels=fields()["labels"],
)


@pytest.fixture
def worker() -> Iterator[SplitWorker]:
    made = split_worker(load_worker(FAMILY))
    yield made
    made.stop()


def test_it_says_what_it_holds(worker: SplitWorker) -> None:
    assert worker.describe() == WorkerDescription(
        model="a tiny model",
        num_blocks=NUM_BLOCKS,
        lowest_cut=1,
        memory_bytes=3e9,
        flops_per_second=2e12,
        dtype="float32",
        max_sessions=MAX_SESSIONS,
        base=base_to_text(digest_of(Checkpoint(source=str(checkpoint(FAMILY))), torch.float32)),
    )


def test_a_session_from_its_opening_to_its_close(worker: SplitWorker) -> None:
    token = worker.open(SPEC)
    assert worker.spec_of(token) == SPEC
    worker.exchange(token, FORWARD)
    assert worker.steps() == {3: 1}
    assert worker.collect(token).num_steps == 1
    worker.close(token)
    assert worker.steps() == {}
    for call in (worker.collect, worker.spec_of, lambda t: worker.exchange(t, FORWARD)):
        with pytest.raises(AuthenticationError):
            call(token)


def test_what_is_collected_does_not_change_with_later_steps(worker: SplitWorker) -> None:
    token = worker.open(SPEC)
    worker.exchange(token, FORWARD)
    result = worker.collect(token)
    before = {name: update.dense() for name, update in result.updates.items()}
    worker.exchange(token, replace(FORWARD, step=2))
    assert all(torch.equal(result.updates[name].dense(), dense) for name, dense in before.items())
    later = worker.collect(token).updates
    assert any(not torch.equal(later[name].dense(), dense) for name, dense in before.items())


def test_a_session_that_cannot_be_opened_takes_no_place() -> None:
    worker = split_worker(load_worker(FAMILY), Sessions(max_sessions=1))
    for _ in range(3):
        with pytest.raises(SplitError):
            worker.open(SPEC.replace(cut=9))
    worker.open(SPEC)
    with pytest.raises(WorkerRejectedError, match="1 sessions are open, no more"):
        worker.open(SPEC)
    worker.stop()


def test_the_registry_that_is_given_is_the_one_that_is_used() -> None:
    """An empty registry is not nothing."""
    sessions = Sessions(max_sessions=5)
    worker = split_worker(load_worker(FAMILY), sessions)
    token = worker.open(SPEC)
    assert sessions.find(token).spec == SPEC
    worker.stop()


def test_an_update_closes_the_sessions_that_were_left_open(
    worker: SplitWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """Their round is over, and whoever might have closed them is perhaps no more."""
    tokens = [worker.open(SPEC.replace(client=client)) for client in (7, 5)]
    worker.load_update(global_update(FAMILY))
    assert "closed the sessions that were left open, of clients 5, 7" in caplog.text
    assert worker.steps() == {}
    for token in tokens:
        with pytest.raises(AuthenticationError):
            worker.exchange(token, FORWARD)
    caplog.clear()
    worker.load_update(global_update(FAMILY))
    assert not caplog.text


def test_an_update_closes_a_session_that_was_opened_while_it_waited(worker: SplitWorker) -> None:
    """It would start from the update that is replaced."""
    started, release = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        assert release.wait(60)

    worker._executor.submit(hold)
    assert started.wait(60)
    with ThreadPoolExecutor(2) as pool:
        opening = pool.submit(worker.open, SPEC)
        wait_until(lambda: len(worker._executor._queue) == 1)
        loading = pool.submit(worker.load_update, global_update(FAMILY))
        wait_until(lambda: len(worker._executor._queue) == 2)
        release.set()
        loading.result(60)
    with pytest.raises(AuthenticationError):
        worker.exchange(opening.result(60), FORWARD)


def wait_until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        threading.Event().wait(0.001)


def test_whoever_has_a_part_of_another_adapter_opens_no_session(worker: SplitWorker) -> None:
    """A run loads its own while a device loads its half, or before that."""
    updates = global_update(FAMILY)
    spec = SessionSpec.to_write(cut=2, kept_tokens=9, adapter=fingerprint_of_updates(updates))
    worker.load_update({name: update.scale(2.0) for name, update in updates.items()})
    with pytest.raises(AdapterError, match=r"has the adapter \w{16}, and this device the adapter"):
        worker.open(spec)
    assert worker.describe().adapter, "it is one of a run, and not none"
    worker.load_update(updates)
    worker.close(worker.open(spec))
    worker.close(worker.open(spec.replace(adapter=None)))


def test_a_client_that_never_came_back_does_not_hold_up_the_next_round() -> None:
    clock = Clock()
    sessions = Sessions(timeout_seconds=10.0, clock=clock)
    worker = split_worker(load_worker(FAMILY), sessions)
    token = worker.open(SPEC.replace(round_timeout_seconds=30.0))
    clock.now += 41
    worker.load_update(global_update(FAMILY))
    with pytest.raises(AuthenticationError, match="timed out"):
        worker.exchange(token, FORWARD)
    worker.stop()


def test_a_stopped_worker_is_unavailable(worker: SplitWorker) -> None:
    token = worker.open(SPEC)
    worker.stop()
    for call in (lambda: worker.open(SPEC), lambda: worker.exchange(token, FORWARD)):
        with pytest.raises(WorkerUnavailableError, match="stopping"):
            call()


@pytest.mark.parametrize("sessions_per_pass", [0, 1])
def test_many_threads_train_their_sessions_as_if_alone(sessions_per_pass: int) -> None:
    """But for what a common pass rounds otherwise; without one, exactly."""
    worker = split_worker(load_worker(FAMILY), max_sessions_per_pass=sessions_per_pass)

    def train(seed: int, results: dict[int, torch.Tensor]) -> None:
        token = worker.open(SPEC.replace(client=seed))
        generator = torch.Generator().manual_seed(seed)
        for step in range(1, 6):
            hidden = torch.randn(3, 9, 16, generator=generator)
            worker.exchange(token, replace(FORWARD, step=step, hidden=hidden))
        updates = worker.collect(token).updates
        results[seed] = torch.cat([updates[name].b.flatten() for name in sorted(updates)])

    alone: dict[int, torch.Tensor] = {}
    together: dict[int, torch.Tensor] = {}
    for seed in range(4):
        train(seed, alone)
    threads = [threading.Thread(target=train, args=(seed, together)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.stop()
    assert together.keys() == alone.keys()
    for seed, wanted in alone.items():
        assert_same(together[seed], wanted, f"client {seed}")
        assert sessions_per_pass != 1 or torch.equal(together[seed], wanted)


def test_requests_that_wait_share_a_pass_and_a_bad_one_is_refused_before(
    worker: SplitWorker,
) -> None:
    started, release = threading.Event(), threading.Event()
    tokens = [worker.open(SPEC.replace(client=client)) for client in range(4)]
    runs: list[int] = []
    block = worker._stage.half.block(2)
    block.register_forward_pre_hook(lambda module, args: runs.append(len(args[0])))

    def hold() -> None:
        started.set()
        assert release.wait(10)

    held = worker._executor.submit(hold)
    assert started.wait(10)
    futures = [worker.submit(token, FORWARD) for token in tokens[:3]]
    with pytest.raises(NonFiniteError, match="hidden state is not finite"):
        worker.submit(tokens[3], replace(FORWARD, hidden=FORWARD.hidden * torch.nan))
    release.set()
    held.result(10)
    replies = [future.result(10) for future in futures]
    assert all(isinstance(reply, Loss) for reply in replies)
    assert runs == [9]
    assert worker.steps() == {0: 1, 1: 1, 2: 1, 3: 0}


def test_a_request_that_comes_again_while_it_waits_is_done_once_and_no_more_than_granted_wait(
    worker: SplitWorker,
) -> None:
    """A client whose stream broke sends again what the worker has not come to."""
    started, release = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        assert release.wait(10)

    token = worker.open(SPEC.replace(in_flight=1))
    worker._executor.submit(hold)
    assert started.wait(10)
    first, again = (worker.submit(token, FORWARD) for _ in range(2))
    with pytest.raises(WorkerRejectedError, match="1 requests of this session are waiting, 1 were"):
        worker.submit(token, replace(FORWARD, step=2))
    release.set()
    assert first.result(10) is again.result(10)
    assert worker.steps() == {3: 1}
