"""What the worker refuses of a client's messages, and by which status the client knows."""

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import grpc
import pytest
import torch

from hsplit_flower.errors import WorkerRejectedError
from hsplit_flower.transport.grpc_stream import SESSION_TOKEN_KEY, GrpcStream
from hsplit_flower.transport.status import ERROR_NAME_KEY
from hsplit_flower.types import WireType
from hsplit_flower.wire.codec import encode
from hsplit_flower.wire.messages import request_to_wire
from hsplit_flower.wire.proto.split_pb2 import StepRequest
from hsplit_flower.wire.proto.split_pb2_grpc import SplitWorkerStub
from tests.transport.one_session import BATCHES, FAMILY, FORWARD, HIDDEN, SPEC
from tests.workers import PATIENT, Worker, over_grpc, running_worker


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
