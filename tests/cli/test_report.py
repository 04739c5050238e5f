"""``hsplit report`` writes a page, says where it lies, and says what it cannot read."""

from pathlib import Path

import pytest

from hsplit_flower.cli import main
from hsplit_flower.reports.page import REPORT_FILE
from tests.reports.page.runs import run_of, write_run


def test_a_page_about_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(run_of(), tmp_path)
    assert main(["report", str(folder)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{folder.resolve() / REPORT_FILE} (")
    assert (folder / REPORT_FILE).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_page_about_several_runs(tmp_path: Path) -> None:
    folders = [str(write_run(run, tmp_path)) for run in (run_of(), run_of("day"))]
    out = tmp_path / "both.html"
    assert main(["report", *folders, "--out", str(out)]) == 0
    assert "<h1>2 runs</h1>" in out.read_text(encoding="utf-8")


def test_a_folder_without_a_run_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path / "absent")]) == 1
    assert f"{tmp_path / 'absent'} is no folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 1
    assert "holds no run" in capsys.readouterr().err


def test_a_run_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 2
    assert "RUN" in capsys.readouterr().err
