"""What a run leaves behind survives whatever stops it."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hsplit_flower.adapters import LowRank, import_adapter
from hsplit_flower.errors import AdapterError, ConfigError
from hsplit_flower.reports import AnyLine, RunFolder, ServerEvaluationLine, read_run


def measured(number: int, loss: float) -> ServerEvaluationLine:
    return ServerEvaluationLine(server_round=number, loss=loss, perplexity=math.exp(loss))


def adapter(rank: int) -> dict[str, LowRank]:
    return {"model.layers.0.q": LowRank(b=torch.randn(4, rank), a=torch.randn(rank, 3))}


def test_metrics_are_on_disk_line_by_line(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    for number in range(3):
        folder.add_metrics(measured(number, 1.5))
        lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["server-round"] for line in lines] == list(range(number + 1))


@pytest.mark.parametrize("kept", ["adapter", "model", "summary.md"])
def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path, kept: str):
    """One that has learnt something, or has come to its end."""
    RunFolder(tmp_path / "run").add_metrics(measured(1, 1.0))
    (tmp_path / "run" / kept).touch()
    with pytest.raises(ConfigError, match="holds a run already"):
        RunFolder(tmp_path / "run")


def test_a_run_that_was_killed_before_it_had_a_result_leaves_its_name_to_another(tmp_path: Path):
    """As one whose Ray was late: its server had measured the base by then."""
    RunFolder(tmp_path / "run").add_metrics(measured(0, 1.5))
    with RunFolder(tmp_path / "run") as folder:
        folder.add_metrics(measured(0, 2.5))
    assert read_run(tmp_path / "run").lines == (measured(0, 2.5),)
    void = (tmp_path / "run" / "metrics-void.jsonl").read_text(encoding="utf-8")
    assert json.loads(void)["loss"] == 1.5


def test_numbers_that_json_lacks_become_text(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.write_config({"loss": math.nan, "link": [math.inf, 1.0], "low": -math.inf, "n": 3})
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    values = json.loads(text, parse_constant=pytest.fail)
    assert values == {"loss": "nan", "link": ["inf", 1.0], "low": "-inf", "n": 3}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.write_config({"seed": 1})
    with pytest.raises(TypeError):
        folder.write_config({"seed": object()})
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) == {"seed": 1}


def test_an_adapter_is_replaced_by_the_next(tmp_path: Path):
    folder = RunFolder(tmp_path)
    for rank in (1, 2):
        path = folder.write_adapter(adapter(rank), base_model="tiny", is_transposed=False)
        assert import_adapter(path)["model.layers.0.q"].rank == rank
    assert not (tmp_path / "adapter.new").exists()


def test_an_adapter_is_written_as_it_is_asked_for(tmp_path: Path):
    path = RunFolder(tmp_path).write_adapter(
        adapter(2),
        base_model="owner/base",
        is_transposed=False,
        revision="5f0c",
        dtype=torch.bfloat16,
        card="# Card\n",
    )
    config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/base", "5f0c")
    assert {t.dtype for t in load_file(path / "adapter_model.safetensors").values()} == {
        torch.bfloat16
    }
    assert (path / "README.md").read_text(encoding="utf-8") == "# Card\n"


def test_a_card_is_replaced_alone(tmp_path: Path):
    folder = RunFolder(tmp_path)
    path = folder.write_adapter(
        adapter(2), base_model="tiny", is_transposed=False, card="not measured"
    )
    before = sorted(file.name for file in path.iterdir())
    folder.write_card("measured")
    assert (path / "README.md").read_text(encoding="utf-8") == "measured"
    assert sorted(file.name for file in path.iterdir()) == before


def test_an_adapter_that_cannot_be_written_leaves_the_last_one(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.write_adapter(adapter(2), base_model="tiny", is_transposed=False)
    with pytest.raises(AdapterError, match="nothing to export"):
        folder.write_adapter(adapter(0), base_model="tiny", is_transposed=False)
    assert import_adapter(tmp_path / "adapter")["model.layers.0.q"].rank == 2


def test_an_adapter_is_there_at_any_moment_of_its_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = RunFolder(tmp_path)
    folder.write_adapter(adapter(1), base_model="tiny", is_transposed=False)
    rename, whole = Path.rename, []

    def note(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        found = [path for path in tmp_path.glob("adapter*") if import_adapter(path)]
        whole.append(len(found))
        return moved

    monkeypatch.setattr(Path, "rename", note)
    folder.write_adapter(adapter(2), base_model="tiny", is_transposed=False)
    assert whole == [2, 2], "until the new one is in its place, the old one is kept"
    assert [path.name for path in tmp_path.glob("adapter*")] == ["adapter"]


def test_what_an_interrupted_run_left_over_is_in_nobodys_way(tmp_path: Path):
    folder = RunFolder(tmp_path)
    for name in ("adapter.new", "adapter.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    for rank in (1, 2):
        folder.write_adapter(adapter(rank), base_model="tiny", is_transposed=False)
    assert [path.name for path in tmp_path.glob("adapter*")] == ["adapter"]
    assert not (tmp_path / "adapter" / "half").exists()


def test_a_run_that_fails_with_nothing_to_keep_leaves_no_folder(tmp_path: Path):
    with pytest.raises(OSError, match="no network"), RunFolder(tmp_path / "a" / "b") as folder:
        folder.write_config({"seed": 1})
        assert (tmp_path / "a" / "b" / "config.json").is_file()
        raise OSError("no network")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_takes_no_other_runs_folder_along(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path / "outputs" / "b") as folder:
        folder.write_config({"seed": 1})
        RunFolder(tmp_path / "outputs" / "a").write_config({"seed": 2})
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["a"]


@pytest.mark.parametrize("has_failed", [False, True])
def test_what_a_run_has_written_stays(tmp_path: Path, has_failed: bool):
    def run() -> None:
        with RunFolder(tmp_path / "run") as folder:
            folder.write_config({"seed": 1})
            if has_failed:
                folder.add_metrics(measured(1, 1.5))
                raise OSError("the power is out")

    if has_failed:
        with pytest.raises(OSError, match="power"):
            run()
    else:
        run()
    wanted = {"config.json", "metrics-void.jsonl"} if has_failed else {"config.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == wanted


def test_a_run_that_came_to_nothing_leaves_its_name_to_another(tmp_path: Path):
    for loss in (1.5, 2.5):
        with pytest.raises(OSError, match="power"), RunFolder(tmp_path / "run") as folder:
            folder.add_metrics(measured(1, loss))
            raise OSError("the power is out")
    (line,) = read_run(tmp_path / "run").lines
    assert line == measured(1, 2.5)
    with pytest.raises(OSError, match="power"), RunFolder(tmp_path / "run") as folder:
        folder.add_metrics(measured(1, 1.0))
        (folder.path / "adapter").mkdir()
        raise OSError("the power is out")
    with pytest.raises(ConfigError, match="holds a run already"):
        RunFolder(tmp_path / "run")


def fails(path: Path, seed: int, *lines: AnyLine) -> None:
    with pytest.raises(OSError, match="power"), RunFolder(path) as folder:
        folder.write_config({"seed": seed})
        for line in lines:
            folder.add_metrics(line)
        folder.write_summary({"summary.md": f"of seed {seed}"})
        raise OSError("the power is out")


def test_what_is_read_of_a_failed_run_is_its_own(tmp_path: Path):
    path = tmp_path / "run"
    fails(path, 1, measured(1, 1.5))
    # Of another one there is nothing to tell.
    fails(path, 2)
    assert (path / "summary.md").read_text(encoding="utf-8") == "of seed 1"
    assert read_run(path).config == {"seed": 1} and read_run(path).lines == (measured(1, 1.5),)
    fails(path, 3, measured(1, 2.5))
    assert (path / "summary.md").read_text(encoding="utf-8") == "of seed 3"
    assert read_run(path).config == {"seed": 3} and read_run(path).lines == (measured(1, 2.5),)


def test_one_that_was_killed_after_a_failed_one_leaves_its_name_to_another_too(tmp_path: Path):
    path = tmp_path / "run"
    fails(path, 1, measured(1, 1.5))
    RunFolder(path).add_metrics(measured(1, 2.5))
    assert not (path / "summary.md").exists()
    with RunFolder(path) as folder:
        folder.add_metrics(measured(1, 3.5))
    assert read_run(path).lines == (measured(1, 3.5),)


def test_a_folder_that_was_there_before_stays_as_it_is_left(tmp_path: Path):
    with pytest.raises(OSError, match="power"), RunFolder(tmp_path) as folder:
        folder.write_config({"seed": 1})
        raise OSError("the power is out")
    assert (tmp_path / "config.json").is_file()
