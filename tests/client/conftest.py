"""What these tests share."""

import pytest

from tests.strategies.fixtures import flower_log as flower_log
from tests.workers import Worker


@pytest.fixture
def family(worker: Worker) -> str:
    """Of a file's own worker."""
    return worker.half.architecture.model_type
