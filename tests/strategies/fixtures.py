"""A split worker that outlives the tests of a file, and Flower's log as lines."""

import logging
from collections.abc import Iterator

import pytest

from hsplit_flower.settings import Model, Worker
from hsplit_flower.worker.hosting import host_worker
from tests.families import checkpoint
from tests.strategies.clients import WatchedWorker

OPERATOR_TOKEN = "a token for tests"


@pytest.fixture(scope="session")
def model() -> str:
    """Folder of a tiny llama of three blocks."""
    return str(checkpoint("llama"))


@pytest.fixture(scope="module")
def running(model: str) -> Iterator[WatchedWorker]:
    worker = host_worker(Model(name=model), Worker(operator_token=OPERATOR_TOKEN))
    try:
        yield WatchedWorker(worker)
    finally:
        worker.stop()


@pytest.fixture
def worker(running: WatchedWorker) -> Iterator[WatchedWorker]:
    """A running worker that is watched from now on; every session must be closed at the end."""
    watched = WatchedWorker(running.worker)
    yield watched
    assert not watched.open_tokens
    assert not watched.steps(), "the worker still has sessions"


@pytest.fixture
def flower_log() -> Iterator[list[str]]:
    """The lines that Flower logs while the test runs."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("flwr")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
