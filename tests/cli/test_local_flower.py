"""A SuperLink that ended before its run did."""

from pathlib import Path

import pytest

from hsplit_flower.cli.local_flower import local_superlink


@pytest.mark.timeout(120)
@pytest.mark.long
def test_a_run_whose_superlink_is_gone_has_failed(tmp_path: Path) -> None:
    with local_superlink(tmp_path, simulation=False) as flower:
        assert flower.failure() == "no run was started"
    failure = flower.failure()
    assert failure is not None
    assert "the SuperLink does not say what became of it: " in failure
    assert "is unavailable" in failure
