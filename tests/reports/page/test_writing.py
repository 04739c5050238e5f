"""The page lies where it was asked for, or beside what it is about."""

from pathlib import Path

import pytest

from hsplit_flower.errors import ConfigError, StorageError
from hsplit_flower.reports.page import REPORT_FILE, write_report
from tests.reports.page.runs import run_of, void_run, write_run


def test_of_one_run_it_lies_in_its_folder(tmp_path: Path) -> None:
    folder = write_run(run_of(), tmp_path)
    written = write_report([folder])
    assert written == folder / REPORT_FILE
    assert "<h1>night</h1>" in written.read_text(encoding="utf-8")
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "metrics.jsonl", "plan.json", REPORT_FILE)
    }


def test_of_several_it_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [write_run(run, tmp_path) for run in (run_of(), run_of("day"))]
    monkeypatch.chdir(tmp_path)
    assert write_report(folders) == Path(REPORT_FILE)
    assert (tmp_path / REPORT_FILE).is_file()


def test_a_void_run_has_one(tmp_path: Path) -> None:
    written = write_report([write_run(void_run(), tmp_path)], tmp_path / "new" / "page.html")
    assert "no round was completed" in written.read_text(encoding="utf-8")


def test_the_former_page_stays_where_a_run_cannot_be_read(tmp_path: Path) -> None:
    folder = write_run(run_of(), tmp_path)
    former = write_report([folder]).read_text(encoding="utf-8")
    (folder / "metrics.jsonl").write_text("no line of metrics\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1"):
        write_report([folder])
    assert (folder / REPORT_FILE).read_text(encoding="utf-8") == former


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        write_report([tmp_path / "absent"])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = write_run(run_of(), tmp_path)
    with pytest.raises(StorageError, match=r"config\.json"):
        write_report([folder], folder / "config.json" / "page.html")
