"""A worker, or whoever sits between, that answers more than it was asked, or something else."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import grpc
import pytest
import torch

from hsplit_flower.errors import CodecError, TransportError
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.types import WireType
from hsplit_flower.wire.messages import Forward, LastHidden, reply_to_wire

REQUEST = Forward(step=1, hidden=torch.ones(4, 256, 256))
ONCE = ChannelSettings(num_tries=1, step_timeout_seconds=20.0)
Answers = Callable[[Iterator[bytes]], Iterator[bytes]]


@contextmanager
def _worker(answers: Answers) -> Iterator[str]:
    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, handler_call_details: Any) -> Any:
            return grpc.stream_stream_rpc_method_handler(lambda requests, _: answers(requests))

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


def _reply(step: int) -> bytes:
    reply = LastHidden(step=step, hidden=torch.ones(4, 256, 256))
    return bytes(reply_to_wire(reply, WireType.FLOAT32).SerializeToString())


def test_replies_without_end_wait_on_the_wire() -> None:
    sent = []

    def endless(requests: Iterator[bytes]) -> Iterator[bytes]:
        next(requests)
        for number in range(200):
            sent.append(number)
            yield _reply(1)

    with (
        _worker(endless) as address,
        closing(GrpcStream(address, "token", WireType.FLOAT32, ONCE)) as stream,
    ):
        stream.send(REQUEST)
        time.sleep(1.0)
        # What the channel's window and its buffers hold, however much there is to come.
        assert len(sent) < 60, "the client has asked for one"
        assert stream.receive().step == 1
        stream.send(REQUEST)
        assert stream.receive().step == 1


def test_a_reply_to_another_step_ends_the_exchange() -> None:
    def other(requests: Iterator[bytes]) -> Iterator[bytes]:
        next(requests)
        yield _reply(99)

    with (
        _worker(other) as address,
        closing(GrpcStream(address, "token", WireType.FLOAT32, ONCE)) as stream,
        pytest.raises(CodecError, match="answered step 99"),
    ):
        stream.exchange(REQUEST)


@pytest.mark.parametrize("answer", [b"\xff\xff", b"", bytes(2 * 2**20)])
def test_bytes_that_are_no_reply_are_an_error_of_ours(answer: bytes) -> None:
    def junk(requests: Iterator[bytes]) -> Iterator[bytes]:
        next(requests)
        yield answer

    with (
        _worker(junk) as address,
        closing(GrpcStream(address, "token", WireType.FLOAT32, ONCE)) as stream,
        pytest.raises(TransportError),
    ):
        stream.exchange(REQUEST)
