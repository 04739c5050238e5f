"""A run is read back as it was written; what is none is refused with the place."""

import json
from pathlib import Path

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.reports import read_run

from .runs import example_run


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = example_run(tmp_path)
    assert run.name == tmp_path.name
    assert [line.server_round for line in run.training] == [1, 2]
    assert [line.perplexity for line in run.server_evaluations] == [54.6, 7.39, 7.39]
    assert len(run.client_evaluations) == 2 and len(run.lines) == 7
    assert run.names == ["clinic-a", "clinic-b", "clinic-c"]
    assert run.plan is not None and run.plan.clients["clinic-a"].cut == 2
    assert run.config["model"] == {"name": "tiny"}


def test_a_run_of_which_no_round_was_completed_is_read_too(tmp_path: Path) -> None:
    whole = example_run(tmp_path)
    (tmp_path / "metrics.jsonl").rename(tmp_path / "metrics-void.jsonl")
    assert read_run(tmp_path).lines == whole.lines


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    whole = example_run(tmp_path)
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"version": 2, "kind": "trai')
    assert read_run(tmp_path).lines == whole.lines


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "line 1 is no JSON"),
        ("[1]", "line 1 is no line of metrics"),
        ('{"server-round": 1, "clients": {}}', "line 1 is of version None, 2 is wanted"),
        ('{"version": 3, "kind": "training"}', "is of version 3, 2 is wanted"),
        ('{"version": 2, "kind": "lunch"}', "a line of kind 'lunch': one of training"),
        ('{"version": 2, "kind": "training"}', "holds no TrainingLine: server-round: Field"),
    ],
)
def test_what_is_no_line_is_refused_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_run(tmp_path)


def test_keys_of_a_later_release_are_passed_over(tmp_path: Path) -> None:
    line = {"version": 2, "kind": "server-evaluation", "server-round": 1, "loss": 1.0}
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps({**line, "perplexity": "inf", "news": 1}) + "\n", encoding="utf-8"
    )
    (read,) = read_run(tmp_path).server_evaluations
    assert read.perplexity == float("inf")


def test_a_folder_that_is_not_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder: that of a run is wanted"):
        read_run(tmp_path / "nowhere")
