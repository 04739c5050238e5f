"""What a run leaves, whatever happens after a round; and a run of which no round was completed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hsplit_flower.adapters import LowRank, export_adapter, import_adapter
from hsplit_flower.cli import main
from hsplit_flower.errors import HSplitError
from hsplit_flower.reports import read_run
from hsplit_flower.server.past_run import read_past_run
from hsplit_flower.splitting import Checkpoint, read_architecture

from .one_process import FAILURE, flowers_log, run_here

pytestmark = pytest.mark.usefixtures("app_on_the_path")
UNMEASURED = {"server-evaluation": False}


def lines_of(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    text = (folder / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def card_of(folder: Path) -> str:
    return (folder / "adapter" / "README.md").read_text(encoding="utf-8")


def initial_adapter(folder: Path) -> Path:
    """A PEFT checkpoint for the app's base."""
    weights = read_architecture(Checkpoint(source="llama-tiny").config()).weights
    updates = {
        weight.name: LowRank(
            b=0.01 * torch.randn(weight.out_features, 1), a=torch.randn(1, weight.in_features)
        )
        for weight in weights
    }
    return export_adapter(updates, folder, base_model="llama-tiny", is_transposed=False)


def test_a_run_leaves_its_state_its_adapter_and_a_card_with_the_result(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    with flowers_log() as told:
        folder = run_here(settings, tmp_path, {"adapter-dtype": "bfloat16"})
    (last,) = [line for line in told if "adapter: " in line]
    found = re.fullmatch(
        r"perplexity ([\d.]+) -> ([\d.]+) in [\d.]+ s, [\d,]+ tokens learnt; adapter: (\S+)", last
    )
    assert found is not None and Path(found[3]) == folder / "adapter", last
    tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    before, after = (f"{float(number):.4g}" for number in found.groups()[:2])
    card = card_of(folder)
    for words in (
        "2 rounds, with 2 clients",
        f"of the base | {before} |",
        f"with the adapter | {after} |",
        "| data | restaurants |",
        "| learning-rate | 0.008 |",
    ):
        assert words in card, words
    run = read_past_run(folder)
    assert run.state.server_round == 2
    assert run.history.num_completed == 2
    written = {name for name, update in import_adapter(folder / "adapter").items() if update.rank}
    assert written == {name for name, update in run.state.method.updates.items() if update.rank}


@pytest.mark.long
def test_an_export_of_it_measures_what_the_run_measured(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_here(settings, tmp_path, {"num-server-rounds": 1})
    before, after = (line["perplexity"] for line in lines_of(folder) if "perplexity" in line)
    capsys.readouterr()
    assert main(["export", str(folder), "--rank", "1", "--evaluate", "restaurants"]) == 0
    told = capsys.readouterr().out
    (sent,) = re.findall(r"sent by the run .* ([\d.]+)\n", told)
    assert float(sent) == pytest.approx(after, abs=1e-4)
    assert f"the base alone {before:.4g}" in told
    assert "with the adapter" in (folder / "export-rank-1" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("changed", "dtype"),
    [
        ({}, torch.float16),
        *(
            pytest.param(changed, torch.float32, marks=pytest.mark.long)
            for changed in (
                {"aggregation.adapter-dtype": "float32"},
                {"aggregation.mean-rank": 0},
                {"strategy": "split-lora"},
            )
        ),
    ],
    ids=str,
)
@pytest.mark.long
def test_an_adapter_is_written_in_the_type_that_it_is_sent_in(
    settings: dict[str, Any], tmp_path: Path, changed: dict[str, Any], dtype: torch.dtype
) -> None:
    folder = run_here(settings, tmp_path, {**UNMEASURED, "num-server-rounds": 1, **changed})
    tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    sent, written = read_past_run(folder).state.method.updates, import_adapter(folder / "adapter")
    for name, update in written.items():
        torch.testing.assert_close(update.dense(), sent[name].dense(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("is_measured", [True, False])
@pytest.mark.long
def test_a_step_that_fails_after_a_round_leaves_its_adapter_and_state(
    settings: dict[str, Any], tmp_path: Path, is_measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hsplit_flower.server.split_strategy import SplitStrategy

    def fail(*_: object) -> None:
        raise RuntimeError("out of disk")

    monkeypatch.setattr(SplitStrategy, "configure_evaluate", fail)
    with pytest.raises(RuntimeError, match="out of disk"):
        run_here(settings, tmp_path, {"server-evaluation": is_measured})
    folder = tmp_path / "run"
    assert read_past_run(folder).state.server_round == 1
    assert import_adapter(folder / "adapter")
    assert "| perplexity with the adapter | not measured |" in card_of(folder)


@pytest.mark.long
def test_a_run_that_is_not_measured_says_so(settings: dict[str, Any], tmp_path: Path) -> None:
    with flowers_log() as told:
        folder = run_here(settings, tmp_path, UNMEASURED)
    (last,) = [line for line in told if "adapter: " in line]
    assert last.startswith("perplexity not measured in ")
    assert "No examples were set aside" in card_of(folder)


@pytest.mark.long
def test_where_some_rounds_failed_it_says_how_many_did_not(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    with flowers_log() as told:
        folder = run_here(settings, tmp_path, {"num-server-rounds": 3}, failing_rounds={2, 3})
    (last,) = [line for line in told if "adapter: " in line]
    assert last.startswith("1 of 3 rounds completed, perplexity ")
    assert read_past_run(folder).state.server_round == 1
    assert "1 round, with 2 clients" in card_of(folder)


@pytest.mark.parametrize(
    ("changed", "has_initial"),
    [
        pytest.param({}, False, marks=pytest.mark.long),
        pytest.param(UNMEASURED, False, marks=pytest.mark.long),
        (UNMEASURED, True),
    ],
)
def test_a_run_without_a_completed_round_fails_and_names_no_adapter(
    settings: dict[str, Any], tmp_path: Path, changed: dict[str, Any], has_initial: bool
) -> None:
    changed = {**changed, "adapter": str(initial_adapter(tmp_path / "a")) if has_initial else ""}
    with flowers_log() as told, pytest.raises(HSplitError) as caught:
        run_here(settings, tmp_path, changed, failing_rounds={1, 2})
    folder = tmp_path / "run"
    said = str(caught.value)
    assert said.startswith("0 of 2 rounds completed: nothing was learnt.")
    assert "\nNo adapter was written.\nIn the last round:\n" in said
    assert FAILURE in said and said.endswith(
        f"is in {folder / 'summary.md'}, and in metrics-void.jsonl beside it."
    )
    assert not [line for line in told if "adapter: " in line]
    assert sorted(file.name for file in folder.iterdir()) == [
        "clients.csv",
        "config.json",
        "metrics-void.jsonl",
        "plan.json",
        "report.html",
        "summary.md",
    ]
    run = read_run(folder)
    assert [line.completed for line in run.training] == [False, False]
    assert FAILURE in (folder / "summary.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_an_initial_adapters_perplexity_is_not_told_as_the_bases(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    initial = initial_adapter(tmp_path / "initial")
    folder = run_here(settings, tmp_path, {"adapter": str(initial), "num-server-rounds": 1})
    assert "| perplexity of the base | not measured |" in card_of(folder)
    assert re.search(r"\| perplexity with the adapter \| [\d.]+ \|", card_of(folder))
