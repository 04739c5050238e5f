"""A stream's requests are read ahead as far as granted, and no further."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import grpc
import pytest
import torch

from hsplit_flower.errors import CodecError, NonFiniteError, WorkerRejectedError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.transport.credentials import SESSION_TOKEN_KEY
from hsplit_flower.transport.status import ERROR_NAME_KEY
from hsplit_flower.types import Labels, WireType
from hsplit_flower.wire.messages import (
    Forward,
    LastHidden,
    Reply,
    Request,
    request_from_wire,
    request_to_wire,
)
from hsplit_flower.wire.parsing import parsed
from hsplit_flower.wire.proto.split_pb2 import Empty, StepRequest
from hsplit_flower.wire.proto.split_pb2_grpc import SplitWorkerStub
from hsplit_flower.worker.service import serve
from hsplit_flower.worker.stream_handler import StreamHandler
from tests.workers import after, load_worker, running_worker, split_worker

HIDDEN = torch.ones(1, 2, 4)


def _message(step: int) -> bytes:
    forward = Forward(step=step, hidden=HIDDEN)
    return bytes(request_to_wire(forward, WireType.FLOAT32).SerializeToString())


async def _messages(count: int) -> AsyncIterator[bytes]:
    for step in range(1, count + 1):
        yield _message(step)


async def _decode(message: bytes) -> Request | None:
    request = parsed(StepRequest, message)
    return None if request.HasField("goodbye") else request_from_wire(request)


async def _echo(request: Request) -> Reply:
    return LastHidden(step=request.step, hidden=request.hidden)


def _handler(
    messages: AsyncIterator[bytes],
    granted: int,
    answer: Callable[[Request], Coroutine[Any, Any, Reply]] = _echo,
) -> StreamHandler:
    async def read() -> bytes | None:
        return await anext(messages, None)

    return StreamHandler(read, _decode, answer, granted=granted)


async def _answered(handler: StreamHandler, into: list[int]) -> None:
    async for reply in handler.replies():
        into.append(reply.step)


def test_replies_come_in_the_requests_order() -> None:
    answered: list[int] = []
    asyncio.run(_answered(_handler(_messages(8), 10), answered))
    assert answered == list(range(1, 9))


def test_the_next_requests_are_read_while_one_is_answered() -> None:
    async def run() -> list[int]:
        all_read = asyncio.Event()

        async def messages() -> AsyncIterator[bytes]:
            async for message in _messages(3):
                yield message
            all_read.set()

        async def answer(request: Request) -> Reply:
            await asyncio.wait_for(all_read.wait(), 10)
            return await _echo(request)

        answered: list[int] = []
        await _answered(_handler(messages(), 3, answer), answered)
        return answered

    assert asyncio.run(run()) == [1, 2, 3]


def test_one_more_than_granted_ends_the_stream_by_name() -> None:
    answered: list[int] = []

    async def run() -> None:
        all_read = asyncio.Event()

        async def messages() -> AsyncIterator[bytes]:
            async for message in _messages(3):
                if message == _message(3):
                    all_read.set()
                yield message
            raise AssertionError("no more may be read")

        async def answer(request: Request) -> Reply:
            await asyncio.wait_for(all_read.wait(), 10)
            await asyncio.sleep(0.01)
            return await _echo(request)

        await _answered(_handler(messages(), 2, answer), answered)

    with pytest.raises(WorkerRejectedError, match="3 requests are unanswered, 2 were granted"):
        asyncio.run(run())
    assert answered == [1, 2]


def test_a_client_that_waits_for_its_replies_is_never_refused() -> None:
    """The next request may be there before the reply's sender has drawn breath."""

    async def run() -> int:
        replied = asyncio.Semaphore(2)

        async def messages() -> AsyncIterator[bytes]:
            async for message in _messages(299):
                await asyncio.wait_for(replied.acquire(), 10)
                yield message

        count = 0
        async for _ in _handler(messages(), 2).replies():
            count += 1
            replied.release()
            if count % 50 == 0:
                await asyncio.sleep(0.002)
        return count

    assert asyncio.run(run()) == 299


@pytest.mark.parametrize("failing", [1, 3])
def test_what_fails_ends_the_stream_after_the_replies_before_it(failing: int) -> None:
    handled: list[int] = []
    answered: list[int] = []

    async def answer(request: Request) -> Reply:
        handled.append(request.step)
        if request.step == failing:
            raise NonFiniteError("not finite")
        return await _echo(request)

    with pytest.raises(NonFiniteError):
        asyncio.run(_answered(_handler(_messages(5), 9, answer), answered))
    assert answered == list(range(1, failing))
    assert handled == list(range(1, failing + 1)), "what came after it was not tried"


def test_a_message_that_cannot_be_read_is_refused_in_its_turn() -> None:
    async def messages() -> AsyncIterator[bytes]:
        yield _message(1)
        yield StepRequest(step=2).SerializeToString()

    answered: list[int] = []
    with pytest.raises(CodecError, match="empty step request"):
        asyncio.run(_answered(_handler(messages(), 9), answered))
    assert answered == [1]


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_a_goodbye_is_told_from_an_end(says_goodbye: bool) -> None:
    async def messages() -> AsyncIterator[bytes]:
        yield _message(1)
        if says_goodbye:
            yield StepRequest(goodbye=Empty()).SerializeToString()

    answered: list[int] = []
    handler = _handler(messages(), 1)
    asyncio.run(_answered(handler, answered))
    assert answered == [1]
    assert handler.saw_goodbye is says_goodbye


def test_a_stream_that_breaks_ends_with_what_broke_it() -> None:
    async def messages() -> AsyncIterator[bytes]:
        yield _message(1)
        raise OSError("the connection is gone")

    answered: list[int] = []
    with pytest.raises(OSError, match="gone"):
        asyncio.run(_answered(_handler(messages(), 9), answered))
    assert answered == [1]


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
    real = worker.submit

    def submit(token: str | None, request: Request) -> "Future[Reply]":
        # More than the network's windows hold, so that it has to be taken.
        return after(
            real(token, request),
            lambda reply: replace(reply, hidden=reply.hidden.repeat(1, 1, 4000)),
        )

    worker.submit = submit
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
