"""One run at a time in a folder, and what a disk refuses in words."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hsplit_flower.errors import ConfigError, StorageError
from hsplit_flower.reports import PlanRecord, RunFolder, ServerEvaluationLine, read_run, storage

LINE = ServerEvaluationLine(server_round=1, loss=1.0, perplexity=2.7)
HOLD = """
import sys, time
from hsplit_flower.reports import RunFolder
with RunFolder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_that_another_process_writes_is_refused_and_free_when_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.2)
    path = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="is being written by another run"), RunFolder(path):
            pass
        monkeypatch.undo()
        # One that is ending is waited for.
        threading.Timer(0.5, holder.kill).start()
        with RunFolder(path) as folder:
            folder.add_metrics(LINE)


def test_of_two_that_begin_at_once_the_second_finds_the_firsts_run(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    with first as folder:
        folder.add_metrics(LINE)
        folder.write_summary({"summary.md": "# The run\n"})
    with pytest.raises(ConfigError, match="holds a run already"), second:
        pass


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is full")
def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.add_metrics(LINE)
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "plan.json.new").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"plan\.json cannot be written: No space left"):
        folder.write_plan(PlanRecord(server_round=1))
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is full")
def test_a_full_disk_is_told_with_the_card_too(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "README.md.new").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"adapter/README\.md cannot be written: No space left"):
        RunFolder(tmp_path).write_card("# An adapter")


def test_a_folder_that_cannot_be_copied_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "gone").symlink_to("nowhere")
    with pytest.raises(StorageError, match=r"best cannot be written: \[Errno 2\] No such file"):
        RunFolder(tmp_path).keep_as_best()


def test_a_name_that_no_disk_takes_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written: File name too long"):
        RunFolder(tmp_path / ("x" * 300))


@pytest.mark.skipif(not os.path.isdir("/sys"), reason="only Linux has a folder nobody may write to")
def test_a_folder_that_may_not_be_written_to_is_told(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    # Not even the superuser makes files there.
    (tmp_path / "plan.json.new").symlink_to("/sys/plan.json")
    with pytest.raises(StorageError, match=r"plan\.json cannot be written: (Perm|Read-only|Oper)"):
        folder.write_plan(PlanRecord(server_round=1))
    refused = pytest.raises(StorageError, match=r"/sys/run cannot be written.*another folder")
    with refused, RunFolder(Path("/sys/run")):
        pass


def test_metrics_of_rounds_that_are_to_be_run_again_are_taken_off(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in (0, 1, 1, 2, 3):
        folder.add_metrics(LINE.model_copy(update={"server_round": number}))
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"server-round": 1, "cut o')
    with RunFolder(tmp_path, goes_on_after=2) as again:
        again.add_metrics(LINE.model_copy(update={"server_round": 3, "loss": 9.0}))
    told = [(line.server_round, line.loss) for line in read_run(tmp_path).server_evaluations]
    assert told == [(0, 1.0), (1, 1.0), (1, 1.0), (2, 1.0), (3, 9.0)]
