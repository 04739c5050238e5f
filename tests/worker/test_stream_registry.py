"""One stream a session: the newest, as long as its session is open and somebody is at its end."""

import itertools
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import grpc
import pytest

from hsplit_flower.transport import channel as channel_room
from hsplit_flower.transport.channel import ChannelSettings, open_channel
from hsplit_flower.transport.credentials import SESSION_TOKEN_KEY, token_metadata
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.types import WireType
from hsplit_flower.wire.messages import Reply, Request, request_to_wire
from hsplit_flower.wire.proto.split_pb2 import StepRequest
from hsplit_flower.wire.proto.split_pb2_grpc import SplitWorkerStub
from hsplit_flower.worker import Sessions
from hsplit_flower.worker.calls import OPERATOR_THREADS
from hsplit_flower.worker.stream_registry import StreamRegistry
from tests.worker.steps import FAMILY, SPEC, forward
from tests.workers import OPERATOR_TOKEN, PATIENT, Worker, after, over_grpc, running_worker

Call = "grpc.CallIterator[StepReply]"


class Idle:
    """Streams on which nothing more is sent, and no reply is taken."""

    def __init__(self, address: str) -> None:
        self._channel = open_channel(address, ChannelSettings())
        self._stub = SplitWorkerStub(self._channel)
        self._silence: queue.SimpleQueue[StepRequest] = queue.SimpleQueue()

    def open(self, token: str, *first: StepRequest) -> Call:
        """One more stream, and what is sent before it falls silent."""
        metadata = token_metadata(SESSION_TOKEN_KEY, token)
        messages = itertools.chain(first, iter(self._silence.get, None))
        return self._stub.Exchange(messages, metadata=metadata)

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    with running_worker(FAMILY, Sessions(max_sessions=3)) as running:
        yield running


def _wait_until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.01)


def _num_streams(worker: Worker) -> int:
    return len(worker.worker.streams._hang_up)


def test_a_newer_line_ends_the_older_and_is_not_ended_with_it() -> None:
    lines, ended = StreamRegistry(), []
    with lines.held("a", lambda: ended.append("first")), lines.held("b", lambda: None):
        with lines.held("a", lambda: ended.append("second")):
            assert ended == ["first"]
        lines.end("a")
        assert ended == ["first"], "the second is over"
    older, newer = lines.held("a", lambda: None), lines.held("a", lambda: ended.append("third"))
    older.__enter__()
    with newer:
        older.__exit__(None, None, None)
        lines.end("a")
        lines.end("a")
    assert ended == ["first", "third"]


def test_clients_streams_never_take_the_operators_threads(worker: Worker) -> None:
    """Every session that may be open has a stream, and one of them opens many."""
    tokens = [worker.worker.open(SPEC.replace(client=client)) for client in range(3)]
    many = 3 * OPERATOR_THREADS
    with closing(Idle(worker.address)) as idle:
        calls = [idle.open(token) for token in [*tokens, *[tokens[0]] * many]]
        _wait_until(lambda: sum(call.done() for call in calls) == many)
        remote = RemoteWorker(worker.address, OPERATOR_TOKEN, PATIENT)
        assert remote.steps() == dict.fromkeys(range(3), 0)
        remote.stop()
        with closing(over_grpc(worker, tokens[0])) as stream:
            assert stream.exchange(forward()).step == 1


def test_a_stream_that_takes_no_replies_is_ended_by_a_newer_one(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for room on the network, not for its client's next request."""
    answer = worker.worker.submit

    def submit(token: str | None, request: Request) -> "Future[Reply]":
        return after(
            answer(token, request),
            lambda reply: replace(reply, gradient=reply.gradient.repeat(1, 1, 4000)),
        )

    monkeypatch.setattr(worker.worker, "submit", submit)
    held, over = worker.worker.streams.held, []

    @contextmanager
    def noted(token: str, hang_up: Callable[[], object]) -> Iterator[None]:
        try:
            with held(token, hang_up):
                yield
        finally:
            over.append(token)

    monkeypatch.setattr(worker.worker.streams, "held", noted)
    token = worker.worker.open(SPEC)
    with closing(Idle(worker.address)) as idle:
        older = idle.open(token, request_to_wire(forward(), WireType.FLOAT32))
        _wait_until(lambda: worker.worker.steps() == {0: 1})
        time.sleep(0.3)
        assert not over
        newer = idle.open(token)
        _wait_until(lambda: over == [token])
        assert not newer.done()
        del older


def test_a_stream_ends_with_its_session(worker: Worker) -> None:
    kept, closed = (worker.worker.open(SPEC.replace(client=client)) for client in range(2))
    with closing(Idle(worker.address)) as idle:
        calls = [idle.open(kept), idle.open(closed)]
        _wait_until(lambda: _num_streams(worker) == 2)
        worker.worker.close(closed)
        _wait_until(calls[1].done)
        assert not calls[0].done()
        assert _num_streams(worker) == 1
        worker.worker.load_update({})
        _wait_until(calls[0].done)


def test_an_idle_stream_is_ended_and_its_client_comes_back_on_another() -> None:
    with running_worker(FAMILY, patience_seconds=0.5) as worker:
        token = worker.worker.open(SPEC)
        with closing(Idle(worker.address)) as idle:
            call = idle.open(token)
            _wait_until(call.done)
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            assert "no request came for 0.5 s" in call.details()
        with closing(over_grpc(worker, token)) as stream:
            assert stream.exchange(forward(1)).step == 1
            _wait_until(lambda: _num_streams(worker) == 0)
            assert stream.exchange(forward(2)).step == 2


def test_a_stream_whose_reply_takes_long_is_not_idle() -> None:
    with running_worker(FAMILY, patience_seconds=0.1) as worker:
        token = worker.worker.open(SPEC)
        holding = threading.Thread(target=worker.worker._executor.call, args=(_half_a_second,))
        once = replace(PATIENT, num_tries=1)
        with closing(GrpcStream(worker.address, token, WireType.FLOAT32, once)) as stream:
            holding.start()
            assert stream.exchange(forward()).step == 1
        holding.join()


def _half_a_second() -> None:
    time.sleep(0.5)


class Cable:
    """A connection that can be cut without either end being told."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._target = host, int(port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._is_cut = threading.Event()
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._is_cut.set()

    def close(self) -> None:
        for end in [self._listening, *self._ends]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, far = self._listening.accept()[0], socket.create_connection(self._target)
                self._ends += [near, far]
                for way in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=way, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(2**14):
                if not self._is_cut.is_set():
                    sink.sendall(piece)


@contextmanager
def _quick_to_ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setattr(channel_room, "KEEPALIVE_SECONDS", 0.3)
        changed.setattr(channel_room, "KEEPALIVE_TIMEOUT_SECONDS", 1.0)
        yield


@contextmanager
def _cut_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Worker, Call]]:
    """A worker and an idle call of its client's, between which nothing comes through any more."""
    with _quick_to_ask(monkeypatch), running_worker(FAMILY) as worker:
        token = worker.worker.open(SPEC)
        with closing(Cable(worker.address)) as cable, closing(Idle(cable.address)) as idle:
            call = idle.open(token)
            _wait_until(lambda: _num_streams(worker) == 1)
            cable.cut()
            yield worker, call


def test_a_client_that_is_gone_without_a_word_holds_no_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _cut_off(monkeypatch) as (worker, _):
        _wait_until(lambda: _num_streams(worker) == 0)


def test_a_worker_that_is_gone_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with _cut_off(monkeypatch) as (_, call):
        _wait_until(call.done)
        assert call.code() is grpc.StatusCode.UNAVAILABLE


def test_signs_of_life_are_not_taken_for_an_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    with _quick_to_ask(monkeypatch), running_worker(FAMILY) as worker:
        token = worker.worker.open(SPEC)
        with closing(Idle(worker.address)) as idle:
            call = idle.open(token)
            time.sleep(3.0)
            assert not call.done()
