"""The same for the benchmarks that need Flower: a file of its own, for another process."""

from pathlib import Path

import pytest

from tests.benchmarks.test_quick_runs import WITH_FLOWER
from tests.benchmarks.test_quick_runs import test_a_quick_run_leaves_a_report as leaves_a_report


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", WITH_FLOWER)
def test_a_quick_run_with_flower_leaves_a_report(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    leaves_a_report(name, tmp_path, request)
