"""The network breaks, the worker restarts, messages are too large: no step is lost or doubled."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import grpc
import pytest
import torch

from hsplit_flower.client import LocalRound
from hsplit_flower.client.batch import Batch
from hsplit_flower.errors import (
    AuthenticationError,
    TransportError,
    WorkerRejectedError,
    WorkerUnavailableError,
)
from hsplit_flower.transport import grpc_stream
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.grpc_stream import SESSION_TOKEN_KEY, GrpcStream
from hsplit_flower.transport.status import ERROR_NAME_KEY
from hsplit_flower.types import Labels, SessionSpec, WireType
from hsplit_flower.wire.codec import encode
from hsplit_flower.wire.messages import Forward, Loss, Reply, Request, request_to_wire
from hsplit_flower.wire.proto.split_pb2 import StepRequest
from hsplit_flower.wire.proto.split_pb2_grpc import SplitWorkerStub
from hsplit_flower.worker import Sessions, SplitWorker
from hsplit_flower.worker.service import serve
from tests.families import fields
from tests.rounds import ranks
from tests.workers import (
    PATIENT,
    Worker,
    load_client,
    load_worker,
    over_grpc,
    running_worker,
    split_worker,
)

FAMILY = "llama"
SPEC = SessionSpec(client=0, cut=2, ranks=ranks(FAMILY), learning_rate=1e-2)
BATCHES = [Batch(**fields("right", seed)) for seed in range(4)]
HIDDEN = torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(0))
FORWARD = Forward(step=1, hidden=HIDDEN, labels=BATCHES[0].labels)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with running_worker(FAMILY) as running:
        yield running


def _call(worker: Worker, message: StepRequest, token: str | None) -> grpc.RpcError:
    """What a raw call ends with that is not made by our client."""
    metadata = () if token is None else ((SESSION_TOKEN_KEY, token),)
    with grpc.insecure_channel(worker.address) as channel, pytest.raises(grpc.RpcError) as caught:
        next(SplitWorkerStub(channel).Exchange(iter([message]), metadata=metadata, timeout=10))
    return caught.value


@pytest.mark.parametrize("token", [None, "", "wrong"])
def test_without_a_right_token_the_status_is_unauthenticated(
    worker: Worker, token: str | None
) -> None:
    failure = _call(worker, request_to_wire(FORWARD, WireType.FLOAT32), token)
    assert failure.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "token is missing, wrong" in failure.details()


def _wrong_shape() -> StepRequest:
    return request_to_wire(replace(FORWARD, hidden=torch.ones(3, 9, 17)), WireType.FLOAT32)


def _wrong_type() -> StepRequest:
    message = request_to_wire(FORWARD, WireType.FLOAT32)
    message.forward.hidden.CopyFrom(encode(HIDDEN.long()))
    return message


def _cut_off() -> StepRequest:
    message = request_to_wire(FORWARD, WireType.FLOAT32)
    message.forward.hidden.data = message.forward.hidden.data[:-4]
    return message


def _label_too_large() -> StepRequest:
    labels = BATCHES[0].labels.clone()
    labels[1, 3] = 61
    return request_to_wire(replace(FORWARD, labels=labels), WireType.FLOAT32)


@pytest.mark.parametrize(
    "make", [_wrong_shape, _wrong_type, _cut_off, _label_too_large, StepRequest]
)
def test_a_message_that_does_not_fit_is_an_invalid_argument(worker: Worker, make: object) -> None:
    failure = _call(worker, make(), worker.worker.open(SPEC))
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (ERROR_NAME_KEY, "CodecError") in failure.trailing_metadata()


def test_a_message_over_the_clients_limit_is_named() -> None:
    settings = replace(PATIENT, max_message_bytes=1000)
    with running_worker(FAMILY) as running:
        token = running.worker.open(SPEC)
        with (
            closing(GrpcStream(running.address, token, WireType.FLOAT32, settings)) as stream,
            pytest.raises(WorkerRejectedError, match=r"over the limit: .*1000.*max-message-mb"),
        ):
            stream.exchange(FORWARD)


def test_a_message_over_the_workers_limit_is_named() -> None:
    with running_worker(FAMILY, max_message_bytes=1500) as running:
        token = running.worker.open(SPEC)
        with closing(over_grpc(running, token)) as stream:
            with pytest.raises(
                WorkerRejectedError, match=r"over the limit: .*1500.*max-message-mb"
            ):
                stream.exchange(FORWARD)
            small = replace(FORWARD, hidden=HIDDEN[:1, :4], labels=BATCHES[0].labels[:1, :4])
            assert stream.exchange(small).step == 1


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_worker_that_is_not_there_is_tried_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(grpc_stream.time, "sleep", pauses.append)
    address = f"127.0.0.1:{_free_port()}"
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
    monkeypatch.setattr(grpc_stream.time, "sleep", lambda seconds: pytest.fail("tried again"))
    with closing(over_grpc(worker, "wrong")) as stream, pytest.raises(AuthenticationError):
        stream.exchange(FORWARD)


def test_an_error_on_the_worker_that_is_not_ours_is_not_told(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("/a/secret/path")

    monkeypatch.setattr(worker.half, "logits", fail)
    token = worker.worker.open(SPEC)
    with (
        caplog.at_level(logging.ERROR, logger="hsplit_flower"),
        closing(over_grpc(worker, token)) as stream,
        pytest.raises(WorkerRejectedError, match="its log says why") as caught,
    ):
        stream.exchange(FORWARD)
    assert "secret" not in str(caught.value)
    assert "/a/secret/path" in caplog.text


@contextmanager
def _serving(worker: SplitWorker, port: int) -> Iterator[grpc.Server]:
    server, _ = serve(worker, host="127.0.0.1", port=port)
    try:
        yield server
    finally:
        server.stop(grace=None).wait()


class Interrupted:
    """A worker whose service is torn down at chosen requests, before or after they are handled.

    A thread of its own stops the service, waits until the client has lost its stream, and serves
    the same worker again on the same port.
    """

    def __init__(self, worker: SplitWorker, moments: dict[int, str]) -> None:
        self._worker = worker
        self._moments = moments
        self._count = 0
        self._answer = worker.exchange
        worker.exchange = self._exchange
        self.port = _free_port()
        self._server, _ = serve(worker, host="127.0.0.1", port=self.port)
        self._restarts: list[threading.Thread] = []

    def _exchange(self, token: str | None, request: Request) -> Reply:
        self._count += 1
        moment = self._moments.pop(self._count, None)
        if moment == "before":
            self._tear_down()
        reply = self._answer(token, request)
        if moment == "after":
            self._tear_down()
        return reply

    def _tear_down(self) -> None:
        """Called inside a handler, whose stream is cut at once."""
        self._server.stop(grace=None)
        restart = threading.Thread(target=self._serve_again)
        self._restarts.append(restart)
        restart.start()

    def _serve_again(self) -> None:
        time.sleep(0.05)
        self._server, _ = serve(self._worker, host="127.0.0.1", port=self.port)

    def stop(self) -> int:
        """End it; how many requests came in all."""
        for restart in self._restarts:
            restart.join()
        self._server.stop(grace=None).wait()
        assert not self._moments, "not every interruption took place"
        return self._count


def _train(
    worker: SplitWorker, spec: SessionSpec, address: str, micro_batch_size: int = 0
) -> dict[str, torch.Tensor]:
    """Loss and trained factors of four steps."""
    token = worker.open(spec)
    client = load_client(FAMILY, spec.cut, keeps_labels=spec.labels is Labels.CLIENT)
    with closing(GrpcStream(address, token, WireType.FLOAT32, PATIENT)) as stream:
        local_round = LocalRound(client, {}, spec, stream, micro_batch_size=micro_batch_size)
        outcome = local_round.train(BATCHES, probe=True)
    result = worker.collect(token)
    worker.close(token)
    assert result.num_steps == len(BATCHES)
    seen = {"loss": torch.tensor(outcome.loss.loss_sum, dtype=torch.float64)}
    for name, update in {**outcome.updates, **result.updates}.items():
        seen |= {f"{name}.b": update.b, f"{name}.a": update.a}
    for name, score in {**outcome.importance, **result.importance}.items():
        seen[name] = torch.tensor(score)
    return seen


@pytest.mark.parametrize("labels", Labels)
def test_a_stream_that_breaks_is_replayed_and_nothing_is_applied_twice(labels: Labels) -> None:
    """Interruptions before and after a request is handled, and in both halves of a step."""
    spec = replace(SPEC, labels=labels)
    with running_worker(FAMILY) as running:
        wanted = _train(running.worker, spec, running.address)
    worker = split_worker(load_worker(FAMILY))
    interrupted = Interrupted(worker, {2: "after", 4: "before", 6: "after"})
    try:
        got = _train(worker, spec, f"127.0.0.1:{interrupted.port}")
    finally:
        num_requests = interrupted.stop()
        worker.stop()
    assert num_requests == len(BATCHES) * (2 if labels is Labels.CLIENT else 1) + 3
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("labels", Labels)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_stream_that_breaks_with_several_on_the_wire_is_replayed_in_order(
    labels: Labels, moment: str
) -> None:
    """Wherever it breaks in a step, each micro-batch's gradient is counted in once."""
    spec = replace(SPEC, labels=labels, in_flight=3)
    with running_worker(FAMILY) as running:
        wanted = _train(running.worker, spec, running.address, micro_batch_size=1)
    worker = split_worker(load_worker(FAMILY))
    interrupted = Interrupted(worker, {3: moment, 6: moment, 9: moment})
    try:
        got = _train(worker, spec, f"127.0.0.1:{interrupted.port}", micro_batch_size=1)
    finally:
        interrupted.stop()
        worker.stop()
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)


def test_a_worker_that_comes_back_without_its_sessions_refuses_the_token() -> None:
    """The client's round is void then; it must not train against a fresh session unawares."""
    port = _free_port()
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
    port = _free_port()
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
