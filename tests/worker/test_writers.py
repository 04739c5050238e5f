"""The writers' token: it opens sessions that write texts, and nothing else of a worker."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import torch

from hsplit_flower.errors import AuthenticationError, WorkerRejectedError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.types import WireType
from hsplit_flower.wire.next_tokens import Extend, NextTokens
from hsplit_flower.worker.service import serve
from hsplit_flower.worker.writing_admission import MOST_SESSIONS, check_room
from tests.workers import OPERATOR_TOKEN, PATIENT, load_worker, split_worker

WRITERS = "who writes here shows this"
WRITING = SessionSpec.to_write(cut=1, kept_tokens=20)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    worker = split_worker(load_worker("llama"))
    server, port = serve(
        worker, host="127.0.0.1", port=0, operator_token=OPERATOR_TOKEN, writer_token=WRITERS
    )
    yield f"127.0.0.1:{port}"
    server.stop(grace=None).wait()
    worker.stop()


@contextmanager
def towards(address: str, token: str) -> Iterator[RemoteWorker]:
    """A worker as whoever has this token sees it."""
    worker = RemoteWorker(address, token, PATIENT)
    yield worker
    worker.stop()


def test_a_writer_opens_a_session_writes_and_closes_it(address: str) -> None:
    with towards(address, WRITERS) as writer:
        assert writer.describe().lowest_cut == 1
        token = writer.open(WRITING)
        with closing(GrpcStream(address, token, WireType.FLOAT32, PATIENT)) as stream:
            hidden = torch.randn(1, 4, 16)
            reply = stream.exchange(Extend(step=1, hidden=hidden, begins=True, num_choices=2))
        assert isinstance(reply, NextTokens)
        assert reply.logits.shape == (1, 2)
        writer.close(token)
        late = GrpcStream(address, token, WireType.FLOAT32, PATIENT)
        with closing(late), pytest.raises(AuthenticationError):
            late.exchange(Extend(step=2, hidden=hidden))


def test_a_writer_may_do_nothing_else(address: str) -> None:
    with towards(address, WRITERS) as writer:
        with pytest.raises(WorkerRejectedError, match="opens no session to train"):
            writer.open(SessionSpec(client=0, cut=1))
        for call in (lambda: writer.load_update({}), writer.steps, lambda: writer.collect("x")):
            with pytest.raises(AuthenticationError):
                call()


def test_the_operator_may_write_too_and_others_may_not(address: str) -> None:
    with towards(address, OPERATOR_TOKEN) as operator:
        operator.close(operator.open(WRITING))
        operator.close(operator.open(SessionSpec(client=0, cut=1)))
    with towards(address, "somebody else's") as stranger, pytest.raises(AuthenticationError):
        stranger.open(WRITING)


def test_so_many_sessions_write_at_a_time() -> None:
    check_room(WRITING, 1, 0, 1e9, MOST_SESSIONS - 1)
    with pytest.raises(WorkerRejectedError, match="1024 sessions that write are open"):
        check_room(WRITING, 1, 0, 1e9, MOST_SESSIONS)
