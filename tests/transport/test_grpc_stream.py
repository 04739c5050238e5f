"""The worker is not there, answers late, comes back or is stopping; the client ends its stream."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import grpc
import pytest

from hsplit_flower.errors import AuthenticationError, TransportError, WorkerUnavailableError
from hsplit_flower.transport import silence
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.types import WireType
from hsplit_flower.wire.messages import Loss
from hsplit_flower.worker import Sessions, SplitWorker
from hsplit_flower.worker.service import serve
from tests.transport.one_session import FAMILY, FORWARD, SPEC, free_port
from tests.workers import PATIENT, Worker, load_worker, over_grpc, running_worker, split_worker


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with running_worker(FAMILY) as running:
        yield running


def test_a_worker_that_is_not_there_is_tried_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(silence.time, "sleep", pauses.append)
    address = f"127.0.0.1:{free_port()}"
    settings = ChannelSettings(num_tries=4, pause_seconds=0.5)
    with (
        closing(GrpcStream(address, "token", WireType.FLOAT32, settings)) as stream,
        pytest.raises(WorkerUnavailableError, match=f"at {address} was tried 4 times"),
    ):
        stream.exchange(FORWARD)
    assert pauses == [0.5, 1.0, 2.0]


def test_a_worker_that_does_not_answer_in_time_is_given_up() -> None:
    """And when it answers at last, the step has been done once."""
    with running_worker(FAMILY) as running:
        token = running.worker.open(SPEC)
        release = threading.Event()
        holding = threading.Thread(target=running.worker._executor.call, args=(release.wait,))
        holding.start()
        settings = ChannelSettings(num_tries=2, pause_seconds=0.01, step_timeout_seconds=0.2)
        with closing(GrpcStream(running.address, token, WireType.FLOAT32, settings)) as stream:
            with pytest.raises(
                WorkerUnavailableError, match=r"tried 2 times: no reply within 0.2 s"
            ):
                stream.exchange(FORWARD)
            release.set()
            holding.join()
            assert stream.exchange(FORWARD).step == 1
        assert running.worker.collect(token).num_steps == 1


def test_a_wrong_token_is_not_tried_again(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence.time, "sleep", lambda seconds: pytest.fail("tried again"))
    with closing(over_grpc(worker, "wrong")) as stream, pytest.raises(AuthenticationError):
        stream.exchange(FORWARD)


@contextmanager
def _serving(worker: SplitWorker, port: int) -> Iterator[grpc.Server]:
    server, _ = serve(worker, host="127.0.0.1", port=port)
    try:
        yield server
    finally:
        server.stop(grace=None).wait()


def test_a_worker_that_never_has_answered_is_given_up_before_one_that_has() -> None:
    """Its address may be wrong; one that has answered may come back."""
    settings = ChannelSettings(
        num_tries=1, pause_seconds=0.01, patience_seconds=0.8, first_patience_seconds=0.1
    )
    worker, port = split_worker(load_worker(FAMILY)), free_port()
    token, address = worker.open(SPEC), f"127.0.0.1:{port}"
    waited = []
    for has_answered in (False, True):
        with closing(GrpcStream(address, token, WireType.FLOAT32, settings)) as stream:
            if has_answered:
                with _serving(worker, port):
                    stream.exchange(FORWARD)
            began = time.monotonic()
            with pytest.raises(WorkerUnavailableError):
                stream.exchange(replace(FORWARD, step=2))
            waited.append(time.monotonic() - began)
    worker.stop()
    assert waited[0] < 0.8 <= waited[1]


def test_a_worker_that_comes_back_without_its_sessions_refuses_the_token() -> None:
    """The client's round is void then; it must not train against a fresh session unawares."""
    port = free_port()
    first, second = split_worker(load_worker(FAMILY)), split_worker(load_worker(FAMILY))
    token = first.open(SPEC)
    with closing(GrpcStream(f"127.0.0.1:{port}", token, WireType.FLOAT32, PATIENT)) as stream:
        with _serving(first, port):
            assert isinstance(stream.exchange(FORWARD), Loss)
        with _serving(second, port), pytest.raises(AuthenticationError):
            stream.exchange(replace(FORWARD, step=2))
    first.stop()
    second.stop()


def test_a_worker_that_is_stopping_is_unavailable() -> None:
    with running_worker(FAMILY) as running:
        token = running.worker.open(SPEC)
        settings = ChannelSettings(num_tries=2, pause_seconds=0.01)
        with closing(GrpcStream(running.address, token, WireType.FLOAT32, settings)) as stream:
            running.worker.stop()
            with pytest.raises(WorkerUnavailableError, match="split worker is stopping"):
                stream.exchange(FORWARD)


@pytest.mark.parametrize("how", ["closed", "cut off", "just ended"])
def test_only_a_stream_that_is_closed_is_a_goodbye(how: str) -> None:
    """A client that was cut off may come back, or never; one that has finished waits for others."""
    sessions = Sessions(timeout_seconds=0.3)
    worker = split_worker(load_worker(FAMILY), sessions)
    port = free_port()
    with _serving(worker, port):
        token = worker.open(SPEC)
        stream = GrpcStream(f"127.0.0.1:{port}", token, WireType.FLOAT32, PATIENT)
        stream.exchange(FORWARD)
        if how == "cut off":
            stream._hang_up()
        elif how == "just ended":
            stream._line._outbox.put(None)
            stream._line = None
        stream.close()
        time.sleep(0.5)
        assert len(sessions) == (1 if how == "closed" else 0)
    worker.stop()


def test_a_closed_stream_cannot_be_used(worker: Worker) -> None:
    stream = over_grpc(worker, worker.worker.open(SPEC))
    stream.exchange(FORWARD)
    stream.close()
    stream.close()
    with pytest.raises((TransportError, ValueError)):
        stream.exchange(replace(FORWARD, step=2))
