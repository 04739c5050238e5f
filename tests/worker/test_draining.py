"""A worker that is about to end: what is under way is finished, and no more is begun."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from hsplit_flower.errors import WorkerUnavailableError
from hsplit_flower.settings import Model, Worker
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.types import WireType
from hsplit_flower.worker.hosting import HostedWorker, host_worker
from tests.families import checkpoint
from tests.worker.steps import AT_CLIENT, FAMILY, SPEC, backward, forward, without_labels

HASTY = ChannelSettings(num_tries=1, pause_seconds=0.05, step_timeout_seconds=20.0)


@pytest.fixture
def worker() -> Iterator[HostedWorker]:
    hosted = host_worker(Model(name=str(checkpoint(FAMILY))), Worker(device="cpu"))
    yield hosted
    hosted.stop()


def _stream(worker: HostedWorker, token: str) -> "closing[GrpcStream]":
    return closing(GrpcStream(worker.address, token, WireType.FLOAT32, HASTY))


def test_the_steps_that_are_under_way_are_finished(worker: HostedWorker) -> None:
    done: list[bool] = []
    begun, other = worker.open(AT_CLIENT), worker.open(SPEC.replace(client=1))
    draining = threading.Thread(target=lambda: done.append(worker.drain(timeout_seconds=60.0)))
    with _stream(worker, begun) as first, _stream(worker, other) as second:
        first.exchange(without_labels())
        assert second.exchange(forward()).step == 1
        draining.start()
        worker.health._is_ending.wait(10.0)
        with pytest.raises(WorkerUnavailableError, match="begins no more steps"):
            second.exchange(forward(2))
        with pytest.raises(WorkerUnavailableError, match="opens no more sessions"):
            worker.open(SPEC.replace(client=2))
        assert draining.is_alive()
        assert first.exchange(backward()).step == 1
        draining.join(30.0)
    assert done == [True]
    assert worker.steps() == {AT_CLIENT.client: 1, 1: 1}


def test_a_step_that_nobody_goes_on_with_is_not_waited_for_without_end(
    worker: HostedWorker,
) -> None:
    token = worker.open(AT_CLIENT)
    with _stream(worker, token) as stream:
        stream.exchange(without_labels())
        assert not worker.drain(timeout_seconds=0.2)
