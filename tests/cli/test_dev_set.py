"""What ``hsplit export`` measures, and on what."""

import re
from pathlib import Path

import pytest

from tests.cli.exporting import exported
from tests.server.past_runs import learnt, state_after, write_run


@pytest.mark.long
def test_perplexity_is_that_of_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(
        tmp_path / "run", base="llama-tiny", method=state_after(learnt("llama-tiny", size=0.004))
    )
    told = exported(capsys, run, "--rank", 1, "--evaluate", "restaurants")
    (found,) = re.findall(
        r"perplexity on (\d+) examples of restaurants: ([\d.]+) -> ([\d.]+) \((\S+) %\); "
        r"the base alone ([\d.]+)",
        told,
    )
    count, sent, own, change, before = map(float, found)
    assert count == 7, "as many as the run's own"
    assert change == pytest.approx(100 * (own / sent - 1), abs=0.5, rel=0.1)
    assert len({before, sent, own}) == 3
    (column,) = re.findall(r"this export .* ([\d.]+)\n", told)
    assert float(column) == pytest.approx(own, rel=1e-3)


@pytest.mark.long
def test_a_merged_model_is_measured_as_it_is_rounded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(
        tmp_path / "run", base="llama-tiny", method=state_after(learnt("llama-tiny", size=0.004))
    )
    measured = {}
    for dtype in ("float32", "bfloat16"):
        options = ("--dtype", dtype, "--evaluate", "restaurants", "--evaluation-examples", 4)
        told = exported(capsys, run, "--exact", "--merge-into", tmp_path / dtype, *options)
        assert "perplexity on 4 examples" in told
        (beside,) = re.findall(r"this export .* ([\d.]+)\n", told)
        (merged,) = re.findall(r"with perplexity ([\d.]+) as it is rounded there", told)
        measured[dtype] = float(merged) / float(beside)
    assert measured["float32"] == pytest.approx(1.0, abs=1e-4)
    assert measured["bfloat16"] == pytest.approx(1.0, abs=0.02)
    assert measured["bfloat16"] != measured["float32"]
