"""The standard health service, asked as supervisors ask it."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from benchmarks.tools.hostile import hanging_calls
from hsplit_flower.errors import WorkerUnavailableError
from hsplit_flower.settings import Model, SessionSpec, Worker
from hsplit_flower.transport import health
from hsplit_flower.worker.hosting import HostedWorker, host_worker
from tests.families import checkpoint


@pytest.fixture
def worker() -> Iterator[HostedWorker]:
    hosted = host_worker(Model(name=str(checkpoint("llama"))), Worker(device="cpu"))
    yield hosted
    hosted.stop()


def test_it_serves_until_it_is_about_to_end(worker: HostedWorker) -> None:
    with grpc.insecure_channel(worker.address) as channel:
        check = HealthStub(channel).Check
        for name in ("", "hsplit.v1.SplitWorker", "hsplit.v1.WorkerControl"):
            assert check(HealthCheckRequest(service=name)).status == HealthCheckResponse.SERVING
        worker.health.end()
        assert check(HealthCheckRequest()).status == HealthCheckResponse.NOT_SERVING


def test_what_it_does_not_know_is_refused(worker: HostedWorker) -> None:
    with grpc.insecure_channel(worker.address) as channel:
        with pytest.raises(grpc.RpcError) as unknown:
            HealthStub(channel).Check(HealthCheckRequest(service="other"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as garbled:
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"\xff\xff\xff")
        assert garbled.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        watched = HealthStub(channel).Watch(HealthCheckRequest(service="other"))
        assert next(watched).status == HealthCheckResponse.SERVICE_UNKNOWN
        watched.cancel()


def test_who_watches_is_told_when_it_is_about_to_end(worker: HostedWorker) -> None:
    with grpc.insecure_channel(worker.address) as channel:
        watched = HealthStub(channel).Watch(HealthCheckRequest(), timeout=30)
        assert next(watched).status == HealthCheckResponse.SERVING
        threading.Timer(0.2, worker.health.end).start()
        assert next(watched).status == HealthCheckResponse.NOT_SERVING
        late = HealthStub(channel).Watch(HealthCheckRequest(), timeout=30)
        assert [each.status for each in late] == [HealthCheckResponse.NOT_SERVING]


def test_so_many_watch_at_a_time_and_the_oldest_makes_room(worker: HostedWorker) -> None:
    with grpc.insecure_channel(worker.address) as channel:

        def watch() -> Any:
            call = HealthStub(channel).Watch(HealthCheckRequest(), timeout=30)
            assert next(call).status == HealthCheckResponse.SERVING
            return call

        calls = [watch() for _ in range(health.MOST_WATCHES + 1)]
        with pytest.raises(grpc.RpcError, match="8 other callers watch"):
            next(calls[0])
        # Who goes leaves a place.
        calls[1].cancel()
        for _ in range(100):
            if len(worker.health._watching) < health.MOST_WATCHES:
                break
            time.sleep(0.05)
        calls.append(watch())
        worker.health.end()
        for call in calls[2:]:
            assert next(call).status == HealthCheckResponse.NOT_SERVING


def test_who_asks_nothing_is_let_go(worker: HostedWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "QUESTION_SECONDS", 0.2)
    end = threading.Event()
    with grpc.insecure_channel(worker.address) as channel:
        silent = channel.stream_unary(health.CHECK)
        calls = [
            silent.future((b"" for _ in range(1) if end.wait(30)), timeout=20)
            for _ in range(health.MOST_CHECKS - 1)
        ]
        assert HealthStub(channel).Check(HealthCheckRequest(), timeout=10).status
        for call in calls:
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            assert "no HealthCheckRequest came within 0.2 s" in call.details()
        end.set()


def test_who_asks_need_not_wait_behind_those_who_ask_nothing(worker: HostedWorker) -> None:
    """A supervisor that gets no answer ends the worker."""
    with (
        hanging_calls(worker.address, health.CHECK, [()] * 300),
        grpc.insecure_channel(worker.address) as channel,
    ):
        check = HealthStub(channel).Check
        for _ in range(20):
            # In far less than any of those takes to be given up.
            answer = check(HealthCheckRequest(), timeout=health.QUESTION_SECONDS / 2)
            assert answer.status == HealthCheckResponse.SERVING


def test_a_drained_worker_opens_no_sessions_and_is_gone(worker: HostedWorker) -> None:
    worker.open(SessionSpec(client=0, cut=2))
    assert worker.drain(timeout_seconds=10.0), "nothing is under way"
    with pytest.raises(WorkerUnavailableError, match="it opens no more sessions"):
        worker.open(SessionSpec(client=1, cut=2))
    with (
        grpc.insecure_channel(worker.address) as channel,
        pytest.raises(grpc.RpcError) as gone,
    ):
        HealthStub(channel).Check(HealthCheckRequest(), timeout=5.0)
    assert gone.value.code() is grpc.StatusCode.UNAVAILABLE
