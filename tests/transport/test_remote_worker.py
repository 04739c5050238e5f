"""A worker in another process, as the strategy sees it: the same calls as a local one."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest
import torch

from hsplit_flower.adapters import LowRank
from hsplit_flower.errors import (
    AdapterError,
    AuthenticationError,
    HSplitError,
    SplitError,
    WorkerRejectedError,
    WorkerUnavailableError,
)
from hsplit_flower.settings import SessionSpec
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.credentials import OPERATOR_TOKEN_KEY
from hsplit_flower.transport.handshake import PROBE_SECONDS
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.wire.factors import SessionResult
from hsplit_flower.wire.messages import Forward
from hsplit_flower.wire.proto.split_pb2 import Empty
from hsplit_flower.wire.proto.split_pb2_grpc import WorkerControlStub
from hsplit_flower.worker import SplitWorker
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


@contextmanager
def _remote(worker: Worker, token: str = OPERATOR_TOKEN, **limits: int) -> Iterator[RemoteWorker]:
    settings = ChannelSettings(step_timeout_seconds=10.0, **limits)
    remote = RemoteWorker(worker.address, token, settings)
    try:
        yield remote
    finally:
        remote.stop()


@pytest.fixture
def remote(worker: Worker) -> Iterator[RemoteWorker]:
    with _remote(worker) as reached:
        yield reached


def _same(got: SessionResult, wanted: SessionResult) -> bool:
    return (
        (got.num_steps, got.importance) == (wanted.num_steps, wanted.importance)
        and got.updates.keys() == wanted.updates.keys()
        and all(
            torch.equal(got.updates[n].b, update.b) and torch.equal(got.updates[n].a, update.a)
            for n, update in wanted.updates.items()
        )
    )


def test_it_is_described_as_it_describes_itself(worker: Worker, remote: RemoteWorker) -> None:
    assert remote.describe() == worker.worker.describe()
    assert remote.describe().lowest_cut == 1


def test_a_round_by_remote_control_equals_one_by_direct_calls(
    worker: Worker, remote: RemoteWorker
) -> None:
    results = []
    for control in (worker.worker, remote):
        control.load_update(global_update(FAMILY))
        token = control.open(SPEC)
        worker.worker.exchange(token, FORWARD)
        worker.worker.exchange(token, replace(FORWARD, step=2, probe=False))
        assert control.steps() == {4: 2}
        results.append(control.collect(token))
        control.close(token)
        assert len(worker.sessions) == 0
        control.load_update({})
    local, distant = results
    assert _same(distant, local)
    assert local.num_steps == 2
    assert local.importance
    assert any(update.rank for update in local.updates.values())


def test_the_update_that_is_loaded_is_the_one_that_is_trained(
    worker: Worker, remote: RemoteWorker
) -> None:
    remote.load_update(global_update(FAMILY))
    result = remote.collect(remote.open(SPEC))
    for name, rank in SPEC.ranks.items():
        if name in result.updates:
            wanted = global_update(FAMILY)[name].head(rank)
            assert torch.allclose(result.updates[name].dense(), wanted.dense(), atol=1e-6)


def test_a_session_that_trains_nothing_leaves_nothing(worker: Worker, remote: RemoteWorker) -> None:
    result = remote.collect(remote.open(SPEC.replace(ranks={})))
    assert (result.num_steps, result.updates, result.importance) == (0, {}, {})


@pytest.mark.parametrize("token", ["", "wrong", OPERATOR_TOKEN + "!"])
@pytest.mark.parametrize(
    "call",
    [
        lambda remote, ticket: remote.describe(),
        lambda remote, ticket: remote.load_update({}),
        lambda remote, ticket: remote.open(SPEC),
        lambda remote, ticket: remote.steps(),
        lambda remote, ticket: remote.collect(ticket),
        lambda remote, ticket: remote.close(ticket),
    ],
    ids=["describe", "load_update", "open", "steps", "collect", "close"],
)
def test_without_the_operators_token_nothing_is_done(
    worker: Worker, call: object, token: str
) -> None:
    ticket = worker.worker.open(SPEC)
    with (
        _remote(worker, token) as stranger,
        pytest.raises(AuthenticationError, match="operator token is missing or wrong"),
    ):
        call(stranger, ticket)
    assert len(worker.sessions) == 1


@pytest.mark.parametrize("metadata", [(), ((OPERATOR_TOKEN_KEY, "wrong"),)])
def test_the_status_of_a_stranger_is_unauthenticated(
    worker: Worker, metadata: tuple[tuple[str, str], ...]
) -> None:
    with grpc.insecure_channel(worker.address) as channel, pytest.raises(grpc.RpcError) as caught:
        WorkerControlStub(channel).Describe(Empty(), metadata=metadata, timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_clients_token_is_not_the_operators(worker: Worker) -> None:
    with (
        _remote(worker, worker.worker.open(SPEC)) as client,
        pytest.raises(AuthenticationError),
    ):
        client.open(SPEC)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (SPEC.replace(cut=0), SplitError, "cut 0 is out of range"),
        (SPEC.replace(cut=4), SplitError, "cut 4 is out of range"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_workers_own_error(
    remote: RemoteWorker, spec: SessionSpec, error: type[HSplitError], message: str
) -> None:
    with pytest.raises(error, match=message):
        remote.open(spec)


def test_what_does_not_fit_the_model_is_refused(worker: Worker, remote: RemoteWorker) -> None:
    with pytest.raises(AdapterError, match="the model has no weights"):
        remote.load_update({"nothing": LowRank(b=torch.ones(1, 1), a=torch.ones(1, 1))})
    with pytest.raises(AdapterError, match=f"{NAME}.*the model has"):
        remote.load_update({NAME: LowRank(b=torch.ones(3, 1), a=torch.ones(1, 3))})
    assert isinstance(remote.open(SPEC), str), "the update that was refused is still there"


def test_an_update_closes_what_an_operator_that_is_gone_left_open(
    worker: Worker, remote: RemoteWorker
) -> None:
    with _remote(worker) as gone:
        gone.open(SPEC)
    remote.load_update(global_update(FAMILY))
    assert remote.steps() == {}


def test_a_session_that_is_gone(remote: RemoteWorker) -> None:
    token = remote.open(SPEC)
    remote.close(token)
    remote.close(token)
    with pytest.raises(AuthenticationError):
        remote.collect(token)


def test_a_rank_that_grows_does_not_reach_the_limit() -> None:
    """Both ways: what a session starts from, and what it has learnt."""
    limit, rank = 2000, 24
    with (
        running_worker(FAMILY, max_message_bytes=limit) as worker,
        _remote(worker, max_message_bytes=limit) as remote,
    ):
        remote.load_update({NAME: WIDE})
        token = remote.open(SPEC.replace(ranks={NAME: rank}))
        (got,) = remote.collect(token).updates.values()
        (wanted,) = worker.worker.collect(token).updates.values()
    assert 4 * sum(got.b.shape + got.a.shape) * rank > limit
    assert got.rank == rank
    assert torch.equal(got.b, wanted.b)
    assert torch.equal(got.a, wanted.a)
    assert torch.allclose(got.dense(), WIDE.head(rank).dense(), atol=1e-5)


def test_an_update_over_the_limit_is_named() -> None:
    with (
        running_worker(FAMILY, max_message_bytes=4000) as worker,
        _remote(worker) as remote,
        pytest.raises(WorkerRejectedError, match="over the limit"),
    ):
        remote.load_update({NAME: WIDE})


def test_a_worker_that_is_gone_is_unavailable(worker: Worker) -> None:
    with (
        _remote(replace(worker, address="127.0.0.1:1")) as remote,
        pytest.raises(WorkerUnavailableError),
    ):
        remote.open(SPEC)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("nobody.invalid:8600", "(Name|nodename|Temporary)"),
        ("", "it takes connections, and does not answer as a split worker does"),
    ],
    ids=["nobody listens", "no such host", "something else listens"],
)
def test_who_waits_for_a_worker_at_a_wrong_address_is_told_why_soon(host: str, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = host or f"127.0.0.1:{other.getsockname()[1]}"
        remote = RemoteWorker(address, OPERATOR_TOKEN, waiting_seconds=0.3)
        started = time.monotonic()
        with pytest.raises(
            WorkerUnavailableError, match=f"no split worker at {address} within 0.3 s: {reason}"
        ):
            remote.describe()
        remote.stop()
    # A handshake that nobody answers has its own time.
    assert time.monotonic() - started < 5.0 + PROBE_SECONDS


def test_what_answers_and_is_no_worker_is_named() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    remote = RemoteWorker(f"127.0.0.1:{port}", OPERATOR_TOKEN)
    try:
        with pytest.raises(WorkerRejectedError, match="no split worker of this version"):
            remote.describe()
    finally:
        remote.stop()
        server.stop(None).wait()


def test_every_call_of_a_local_worker_is_there() -> None:
    """The strategy does not ask which of the two it has."""
    control = {"describe", "load_update", "open", "steps", "collect", "close", "stop"}
    for kind in (SplitWorker, RemoteWorker):
        assert control <= set(dir(kind))
