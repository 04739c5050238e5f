"""The worker's gRPC service: where it listens, and who is served."""

import socket
from collections.abc import Iterator

import grpc
import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.transport.remote_worker import OPERATOR_TOKEN_KEY
from hsplit_flower.wire.proto.split_pb2 import Empty
from hsplit_flower.wire.proto.split_pb2_grpc import WorkerControlStub
from hsplit_flower.worker import SplitWorker
from hsplit_flower.worker.service import serve
from tests.workers import load_worker, running_worker, split_worker


@pytest.fixture(scope="module")
def worker() -> Iterator[SplitWorker]:
    made = split_worker(load_worker("gpt2"))
    yield made
    made.stop()


def _describe(port: int, token: str) -> grpc.StatusCode:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            metadata = ((OPERATOR_TOKEN_KEY, token),)
            WorkerControlStub(channel).Describe(Empty(), metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_without_an_operators_token_only_clients_are_served(worker: SplitWorker) -> None:
    server, port = serve(worker, host="127.0.0.1", port=0)
    try:
        assert _describe(port, "") is grpc.StatusCode.UNIMPLEMENTED
    finally:
        server.stop(grace=None).wait()


def test_the_operators_token_opens_the_strategys_side(worker: SplitWorker) -> None:
    server, port = serve(worker, host="127.0.0.1", port=0, operator_token="secret")
    try:
        assert _describe(port, "secret") is grpc.StatusCode.OK
        assert _describe(port, "") is grpc.StatusCode.UNAUTHENTICATED
    finally:
        server.stop(grace=None).wait()


def test_an_empty_operators_token_is_refused(worker: SplitWorker) -> None:
    with pytest.raises(ConfigError, match="operator token is empty"):
        serve(worker, host="127.0.0.1", port=0, operator_token="")


def test_a_port_that_is_taken_is_refused(worker: SplitWorker) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve(worker, host="127.0.0.1", port=port)


def test_an_address_that_is_not_ours_is_refused(worker: SplitWorker) -> None:
    """One of those that are kept for documents."""
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0"):
        serve(worker, host="192.0.2.1", port=0)


def test_two_workers_do_not_share_a_port() -> None:
    with running_worker("gpt2") as first, running_worker("gpt2") as second:
        assert first.address != second.address
        port = int(first.address.rpartition(":")[2])
        with pytest.raises(ConfigError, match="cannot listen"):
            serve(second.worker, host="127.0.0.1", port=port)
