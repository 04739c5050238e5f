"""Whoever knocks: what a call without a right to it, or with too much in it, costs the worker."""

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import grpc
import pytest

from benchmarks.tools.hostile import (
    DESCRIBE,
    hanging_calls,
    idle_connections,
    many_dimensions,
    many_tokens,
)
from hsplit_flower.errors import WorkerRejectedError, WorkerUnavailableError
from hsplit_flower.transport.credentials import SESSION_TOKEN_KEY
from hsplit_flower.transport.grpc_stream import EXCHANGE
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.types import WireType
from hsplit_flower.wire.messages import request_to_wire
from hsplit_flower.worker.scheduler import Demand
from hsplit_flower.worker.service import serve
from tests.worker.steps import FAMILY, SPEC, forward
from tests.workers import (
    OPERATOR_TOKEN,
    PATIENT,
    Worker,
    load_worker,
    over_grpc,
    running_worker,
    split_worker,
)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with running_worker(FAMILY) as running:
        yield running


def _serves(worker: Worker) -> bool:
    """Whether strategy and client get what they ask for."""
    remote = RemoteWorker(worker.address, OPERATOR_TOKEN, PATIENT)
    token = remote.open(SPEC)
    with closing(over_grpc(worker, token)) as stream:
        step = stream.exchange(forward()).step
    remote.close(token)
    remote.stop()
    return step == 1


def _refused(worker: Worker, message: bytes, token: str) -> tuple[grpc.StatusCode, str]:
    with grpc.insecure_channel(worker.address) as channel:
        exchange = channel.stream_stream(EXCHANGE)
        with pytest.raises(grpc.RpcError) as caught:
            list(exchange(iter([message]), metadata=((SESSION_TOKEN_KEY, token),), timeout=20))
    return caught.value.code(), caught.value.details()


def test_calls_that_hang_without_a_token_take_no_thread(worker: Worker) -> None:
    assert _serves(worker)
    before = threading.active_count()
    with (
        hanging_calls(worker.address, DESCRIBE, [()] * 200),
        hanging_calls(worker.address, EXCHANGE, [((SESSION_TOKEN_KEY, "no"),)] * 200),
        idle_connections(worker.address, 50),
    ):
        assert _serves(worker)
        assert threading.active_count() <= before + 2
    assert _serves(worker)


def test_silent_streams_take_no_thread(worker: Worker) -> None:
    specs = [SPEC.replace(client=100 + client) for client in range(60)]
    tokens = [worker.worker.open(spec) for spec in specs]
    before = threading.active_count()
    metadata = [((SESSION_TOKEN_KEY, token),) for token in tokens]
    with hanging_calls(worker.address, EXCHANGE, metadata):
        deadline = time.monotonic() + 20
        while len(worker.worker.streams._hang_up) < 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(worker.worker.streams._hang_up) == 60
        assert _serves(worker)
        assert threading.active_count() <= before + 2
    for token in tokens:
        worker.worker.close(token)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (many_dimensions(10_000), "a payload of 10000 dimensions: at most 8"),
        (b"\xff\xff\xff", "3 bytes that are no StepRequest"),
        (b"", "an empty step request"),
        (many_tokens(16 * 2**20, 16), r"a message of \d+ bytes: the session was opened for"),
    ],
    ids=["dimensions", "bytes", "empty", "size"],
)
def test_a_message_is_refused_before_anything_is_made_of_it(
    worker: Worker, message: bytes, said: str
) -> None:
    token = worker.worker.open(SPEC.replace(max_tokens=1000))
    code, details = _refused(worker, message, token)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert re.search(said, details)
    worker.worker.close(token)


def test_a_number_with_another_content_is_refused_and_the_same_one_answered_again(
    worker: Worker,
) -> None:
    token = worker.worker.open(SPEC)
    with closing(over_grpc(worker, token)) as stream:
        first = stream.exchange(forward())
        again = stream.exchange(forward())
        assert again.loss_sum == first.loss_sum
        other = replace(forward(), hidden=forward().hidden + 1e-3)
        with pytest.raises(WorkerRejectedError, match="comes again with another content"):
            stream.exchange(other)
    assert worker.worker.steps()[SPEC.client] == 1
    worker.worker.close(token)


def test_a_session_has_few_calls_however_many_it_asks_for(worker: Worker) -> None:
    token = worker.worker.open(SPEC)
    metadata = [((SESSION_TOKEN_KEY, token),)] * 100
    with hanging_calls(worker.address, EXCHANGE, metadata):
        assert _serves(worker)
        assert len(worker.worker.streams._hang_up) <= 1
    worker.worker.close(token)


def test_refusals_do_not_fill_the_log(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    message = bytes(request_to_wire(forward(), WireType.FLOAT32).SerializeToString())
    with caplog.at_level(logging.INFO, logger="hsplit_flower"):
        for _ in range(40):
            code, _ = _refused(worker, message, "wrong")
            assert code is grpc.StatusCode.UNAUTHENTICATED
    assert len(caplog.records) <= 22


def test_a_device_thread_that_dies_ends_the_server_with_an_error() -> None:
    worker = split_worker(load_worker(FAMILY))
    server, _ = serve(worker, host="127.0.0.1", port=0)
    one = Demand(group="any", num_rows=1, num_positions=1)
    # Limits that cannot be read break the choice of the next batch, which nothing guards.
    worker._executor.limit("no limits")
    waiting = [worker._executor.submit(None, owner=owner, demand=one) for owner in (1, 2)]
    with pytest.raises(WorkerUnavailableError, match="thread died"):
        server.wait_for_termination()
    for future in waiting:
        with pytest.raises(WorkerUnavailableError, match="must be started again"):
            future.result(10)
    for asked in (worker.describe, lambda: worker.open(SPEC)):
        with pytest.raises(WorkerUnavailableError, match="thread died"):
            asked()
    server.stop(grace=None)


def test_a_worker_that_nobody_can_reach_any_more_does_not_say_that_it_lives() -> None:
    worker = split_worker(load_worker(FAMILY))
    server, _ = serve(worker, host="127.0.0.1", port=0)
    assert worker.describe().num_blocks
    # As the thread that answers calls does when it dies; it is the only one of this process.
    server.fail("the thread that answers calls died")
    for asked in (worker.describe, lambda: worker.open(SPEC)):
        with pytest.raises(WorkerUnavailableError, match="that answers calls died"):
            asked()
    server.stop(grace=None)
