"""The undisturbed run that others are compared with."""

from collections.abc import Mapping

import pytest

from benchmarks.faults.run import disturbed_run
from hsplit_flower.adapters import LowRank


@pytest.fixture(scope="package")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, LowRank]:
    with disturbed_run(tmp_path_factory.mktemp("undisturbed") / "run") as run:
        run.start()
        run.wait(120)
        return run.adapter()
