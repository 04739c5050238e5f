"""A stream's requests are read ahead as far as granted, and no further."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest
import torch

from hsplit_flower.errors import CodecError, NonFiniteError, WorkerRejectedError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.transport.grpc_stream import SESSION_TOKEN_KEY
from hsplit_flower.transport.status import ERROR_NAME_KEY
from hsplit_flower.types import Labels, WireType
from hsplit_flower.wire.messages import Forward, LastHidden, Reply, Request, request_to_wire
from hsplit_flower.wire.proto.split_pb2 import StepRequest
from hsplit_flower.wire.proto.split_pb2_grpc import SplitWorkerStub
from hsplit_flower.worker.service import serve
from hsplit_flower.worker.stream_handler import StreamHandler
from tests.workers import load_worker, running_worker, split_worker

HIDDEN = torch.ones(1, 2, 4)


def _message(step: int) -> StepRequest:
    return request_to_wire(Forward(step=step, hidden=HIDDEN), WireType.FLOAT32)


def _echo(request: Request) -> Reply:
    return LastHidden(step=request.step, hidden=request.hidden)


def test_replies_come_in_the_requests_order() -> None:
    exchange = StreamHandler(_echo, granted=10)
    replies = exchange.replies(iter([_message(step) for step in range(1, 9)]))
    assert [reply.step for reply in replies] == list(range(1, 9))


def test_the_next_requests_are_read_while_one_is_answered() -> None:
    read: list[int] = []
    all_read, may_answer = threading.Event(), threading.Event()

    def messages() -> Iterator[StepRequest]:
        for step in (1, 2, 3):
            read.append(step)
            yield _message(step)
        all_read.set()

    def answer(request: Request) -> Reply:
        assert may_answer.wait(10)
        return _echo(request)

    replies = StreamHandler(answer, granted=3).replies(messages())
    threading.Timer(0.05, lambda: all_read.wait(10) and may_answer.set()).start()
    assert [reply.step for reply in replies] == [1, 2, 3]
    assert read == [1, 2, 3]


def test_one_more_than_granted_ends_the_stream_by_name() -> None:
    may_answer = threading.Event()

    def messages() -> Iterator[StepRequest]:
        for step in (1, 2, 3):
            yield _message(step)
        raise AssertionError("no more may be read")

    def answer(request: Request) -> Reply:
        assert may_answer.wait(10)
        return _echo(request)

    replies = StreamHandler(answer, granted=2).replies(messages())
    threading.Timer(0.1, may_answer.set).start()
    answered = []
    with pytest.raises(WorkerRejectedError, match="3 requests are unanswered, 2 were granted"):
        for reply in replies:
            answered.append(reply.step)
    assert answered == [1, 2]


def test_a_client_that_waits_for_its_replies_is_never_refused() -> None:
    """The next request may be there before the reply's sender has drawn breath."""
    replied = threading.Semaphore(2)

    def messages() -> Iterator[StepRequest]:
        for step in range(1, 300):
            assert replied.acquire(timeout=10)
            yield _message(step)

    count = 0
    for _ in StreamHandler(_echo, granted=2).replies(messages()):
        count += 1
        replied.release()
        if count % 50 == 0:
            time.sleep(0.002)
    assert count == 299


@pytest.mark.parametrize("failing", [1, 3])
def test_what_fails_ends_the_stream_after_the_replies_before_it(failing: int) -> None:
    handled: list[int] = []

    def answer(request: Request) -> Reply:
        handled.append(request.step)
        if request.step == failing:
            raise NonFiniteError("not finite")
        return _echo(request)

    answered = []
    with pytest.raises(NonFiniteError):
        for reply in StreamHandler(answer, granted=9).replies(map(_message, range(1, 6))):
            answered.append(reply.step)
    assert answered == list(range(1, failing))
    assert handled == list(range(1, failing + 1)), "what came after it was not tried"


def test_a_message_that_cannot_be_read_is_refused_in_its_turn() -> None:
    answered = []
    with pytest.raises(CodecError, match="empty step request"):
        for reply in StreamHandler(_echo, granted=9).replies(
            iter([_message(1), StepRequest(step=2)])
        ):
            answered.append(reply.step)
    assert answered == [1]


def test_a_stream_that_breaks_ends_the_replies() -> None:
    def messages() -> Iterator[StepRequest]:
        yield _message(1)
        raise OSError("the connection is gone")

    assert [r.step for r in StreamHandler(_echo, granted=9).replies(messages())] == [1]


def _many(width: int, count: int) -> Iterator[StepRequest]:
    hidden = torch.ones(8, 24, width)
    for step in range(1, count + 1):
        yield request_to_wire(Forward(step=step, hidden=hidden, train=False), WireType.FLOAT32)


SPEC = SessionSpec(client=41, cut=2, labels=Labels.CLIENT, train=False)


def test_more_than_granted_over_the_network_is_refused_by_name() -> None:
    with running_worker("llama") as worker, grpc.insecure_channel(worker.address) as channel:
        token = worker.worker.open(SPEC.replace(in_flight=2))
        holding = threading.Event()
        blocker = threading.Thread(target=worker.worker._executor.call, args=(holding.wait,))
        blocker.start()
        metadata = ((SESSION_TOKEN_KEY, token),)
        call = SplitWorkerStub(channel).Exchange(_many(16, 5), metadata=metadata, timeout=20)
        time.sleep(0.2)
        holding.set()
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        blocker.join()
    assert (ERROR_NAME_KEY, "WorkerRejectedError") in caught.value.trailing_metadata()
    assert "3 requests are unanswered, 2 were granted" in caught.value.details()


def test_a_client_that_takes_no_replies_loses_its_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = split_worker(load_worker("llama"))
    real = worker.exchange

    def exchange(token: str | None, request: Request) -> Reply:
        reply = real(token, request)
        # More than the network's windows hold, so that it has to be taken.
        return replace(reply, hidden=reply.hidden.repeat(1, 1, 4000))

    worker.exchange = exchange
    server, port = serve(worker, host="127.0.0.1", port=0, patience_seconds=0.3)
    try:
        token = worker.open(SPEC.replace(in_flight=5))
        with grpc.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]
        ) as channel:
            metadata = ((SESSION_TOKEN_KEY, token),)
            with caplog.at_level(logging.WARNING, logger="hsplit_flower"):
                call = SplitWorkerStub(channel).Exchange(_many(16, 5), metadata=metadata)
                deadline = time.monotonic() + 10
                while "took no reply" not in caplog.text and time.monotonic() < deadline:
                    time.sleep(0.05)
            assert "client 41 took no reply for 0.3 s" in caplog.text
            with pytest.raises(grpc.RpcError):
                list(call)
    finally:
        server.stop(grace=None).wait()
        worker.stop()
