"""A worker with a port of its own, from its settings to its end."""

from typing import Any

import pytest
import torch

from hsplit_flower.errors import (
    AuthenticationError,
    ConfigError,
    SplitError,
    UnsupportedModelError,
    WorkerRejectedError,
    WorkerUnavailableError,
)
from hsplit_flower.settings import Model, SessionSpec, Worker
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.wire.fingerprint import fingerprint_of_updates
from hsplit_flower.worker import hosting
from hsplit_flower.worker.hosting import HostedWorker, device_of, host_worker
from tests.families import NUM_BLOCKS, checkpoint
from tests.server.past_runs import learnt

SPEC = SessionSpec(client=0, cut=2)
SECRET = "a secret of some length"


def _host(model: str = "", *, dtype: str = "float32", **changes: Any) -> HostedWorker:
    lowest_cut = changes.pop("lowest_cut", 2)
    worker = Worker(**({"operator_token": SECRET, "device": "cpu"} | changes))
    base = Model(name=model or str(checkpoint("gpt2")), dtype=dtype)
    return host_worker(base, worker, lowest_cut=lowest_cut)


def test_it_serves_what_its_settings_say() -> None:
    worker = _host(max_sessions=1, dtype="bfloat16")
    try:
        remote = RemoteWorker(worker.address, SECRET)
        description = remote.describe()
        assert (description.num_blocks, description.lowest_cut) == (NUM_BLOCKS, 2)
        assert description.model == str(checkpoint("gpt2"))
        assert description.memory_bytes > 0
        assert description.flops_per_second > 0
        assert worker._stage.half.dtype == torch.bfloat16
        remote.open(SPEC)
        with pytest.raises(WorkerRejectedError, match="1 sessions are open, no more"):
            remote.open(SPEC)
        with pytest.raises(SplitError, match="cut 1 is below 2"):
            remote.open(SPEC.replace(cut=1))
        remote.stop()
    finally:
        worker.stop()


def test_it_has_its_adapter_before_anybody_can_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes is refused by a worker that has no adapter yet."""
    base = str(checkpoint("gpt2"))
    updates = learnt(base)
    found: list[str] = []
    serve = hosting._serve

    def looked_at(worker: HostedWorker, *rest: Any) -> None:
        found.append(worker.describe().adapter)
        serve(worker, *rest)

    monkeypatch.setattr(hosting, "_serve", looked_at)
    how = Worker(operator_token=SECRET, device="cpu")
    host_worker(Model(name=base), how, updates=updates).stop()
    assert found == [fingerprint_of_updates(updates)] != [""]


def test_a_session_times_out_as_its_settings_say() -> None:
    worker = _host(session_timeout_seconds=1e-9)
    try:
        token = worker.open(SPEC)
        assert worker.spec_of(token) == SPEC, "it waits for its client"
        with pytest.raises(AuthenticationError, match="timed out"):
            worker.spec_of(token)
    finally:
        worker.stop()


def test_clients_are_told_another_host_than_is_listened_on() -> None:
    worker = _host(advertised_host="worker.example", insecure=True)
    try:
        host, _, port = worker.address.rpartition(":")
        assert host == "worker.example"
        RemoteWorker(f"127.0.0.1:{port}", SECRET).describe()
    finally:
        worker.stop()


def test_a_stopped_worker_is_not_there() -> None:
    worker = _host()
    worker.stop()
    remote = RemoteWorker(worker.address, SECRET, ChannelSettings(step_timeout_seconds=0.2))
    with pytest.raises(WorkerUnavailableError):
        remote.open(SPEC)
    remote.stop()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "no-such-model"}, UnsupportedModelError, "'no-such-model'"),
        ({"lowest_cut": 0}, SplitError, "cut 0 is out of range"),
        ({"lowest_cut": 4}, SplitError, "cut 4 is out of range"),
        ({"host": "192.0.2.1", "insecure": True}, ConfigError, "cannot listen"),
    ],
)
def test_settings_that_cannot_be_served_are_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _host(**changes)


def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert device_of("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_of("cpu") == "cpu"


@pytest.mark.parametrize("name", ["cuda:99", "quantum", ""])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{name}' cannot be used here"):
        device_of(name)
