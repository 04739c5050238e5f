"""Calls of a remote worker that are not answered, and are made again or not."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from hsplit_flower.adapters import LowRank
from hsplit_flower.errors import (
    WorkerUnavailableError,
)
from hsplit_flower.settings import SessionSpec
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.wire.messages import Forward
from tests.families import fields
from tests.rounds import architecture, global_update, ranks
from tests.workers import OPERATOR_TOKEN, Worker, running_worker

FAMILY = "llama"
SPEC = SessionSpec(client=4, cut=2, ranks=ranks(FAMILY), learning_rate=1e-2)
FORWARD = Forward(
    step=1,
    hidden=torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(0)),
    labels=fields()["labels"],
    probe=True,
)
NAME = architecture(FAMILY).weights[-1].name
WIDE = LowRank(b=torch.randn(16, 40), a=torch.randn(40, 24))


@pytest.fixture
def worker() -> Iterator[Worker]:
    with running_worker(FAMILY) as running:
        yield running


TRIED_AGAIN = {
    "load_update": lambda remote, token: remote.load_update(global_update(FAMILY)),
    "open": lambda remote, token: remote.open(SPEC),
    "collect": lambda remote, token: remote.collect(token),
    "close": lambda remote, token: remote.close(token),
}


def _fails_at_first(
    monkeypatch: pytest.MonkeyPatch, worker: Worker, name: str, num_times: int
) -> list[int]:
    """Have a worker's method fail before it does anything; gives a list of its calls."""
    work, calls = getattr(worker.worker, name), []

    def fail(*args: object) -> object:
        calls.append(len(calls))
        if len(calls) <= num_times:
            raise WorkerUnavailableError("not now")
        return work(*args)

    monkeypatch.setattr(worker.worker, name, fail)
    return calls


@pytest.mark.parametrize("name", TRIED_AGAIN)
def test_a_call_that_was_not_answered_is_made_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings = ChannelSettings(num_tries=3, pause_seconds=0.01)
    remote = RemoteWorker(worker.address, OPERATOR_TOKEN, settings)
    token = remote.open(SPEC)
    calls = _fails_at_first(monkeypatch, worker, name, num_times=2)
    TRIED_AGAIN[name](remote, token)
    assert len(calls) == 3
    remote.stop()


def test_a_worker_that_is_silent_is_tried_once_until_it_answers(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred sessions to close, each would wait through all the pauses."""
    settings = ChannelSettings(num_tries=3, pause_seconds=0.01)
    remote = RemoteWorker(worker.address, OPERATOR_TOKEN, settings)
    calls = _fails_at_first(monkeypatch, worker, "load_update", num_times=7)
    for num_calls in (3, 4, 5):
        with pytest.raises(WorkerUnavailableError, match="not now"):
            remote.load_update({})
        assert len(calls) == num_calls
    remote.open(SPEC)
    remote.load_update({})
    assert len(calls) == 8
    remote.stop()


def test_a_session_that_nobody_waits_for_any_more_is_not_left_open(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_session, is_late = worker.worker.open, threading.Event()

    def open_late(spec: SessionSpec) -> str:
        if not is_late.is_set():
            is_late.set()
            time.sleep(1.0)
        return open_session(spec)

    monkeypatch.setattr(worker.worker, "open", open_late)
    settings = ChannelSettings(step_timeout_seconds=0.5, num_tries=5, pause_seconds=0.5)
    remote = RemoteWorker(worker.address, OPERATOR_TOKEN, settings)
    token = remote.open(SPEC)
    deadline = time.monotonic() + 10
    while len(worker.sessions) != 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(1.0)
    assert len(worker.sessions) == 1
    assert remote.collect(token).num_steps == 0
    remote.stop()
