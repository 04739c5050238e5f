"""The app with methods whose clients have the whole model: one key, and what a run leaves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from hsplit_flower.adapters import import_adapter
from hsplit_flower.cli import main
from hsplit_flower.errors import HSplitError
from hsplit_flower.reports import read_run
from hsplit_flower.server.past_run import read_past_run

from .one_process import flowers_log, run_here

pytestmark = pytest.mark.usefixtures("app_on_the_path")
ROOMY = {"simulation.fleet": "1GB,1GB"}


def test_full_tuning_leaves_the_model_that_it_measured(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {"strategy": "full-tuning", "num-server-rounds": 1, **ROOMY}
    with flowers_log() as told:
        folder = run_here(settings, tmp_path, changed)
    assert any(line.endswith(f"model: {folder / 'model'}") for line in told)
    assert not (folder / "adapter").exists()
    loaded, how = AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.float32, output_loading_info=True
    )
    assert not how["missing_keys"] and not how["unexpected_keys"]
    parameters = dict(loaded.named_parameters())
    learnt = read_past_run(folder).state.method.weights
    assert parameters.keys() == learnt.keys()
    assert all(torch.equal(parameters[name], weight) for name, weight in learnt.items())
    capsys.readouterr()
    assert main(["export", str(folder), "--rank", "1"]) != 0
    assert str(folder / "model") in " ".join(capsys.readouterr().err.split())


@pytest.mark.long
def test_a_method_with_adapters_leaves_one(settings: dict[str, Any], tmp_path: Path) -> None:
    changed = {"strategy": "het-lora", "num-server-rounds": 1, **ROOMY}
    folder = run_here(settings, tmp_path, changed)
    written = import_adapter(folder / "adapter")
    assert any(update.rank for update in written.values())
    sent = read_past_run(folder).state.method.updates
    for name, update in sent.items():
        torch.testing.assert_close(written[name].dense(), update.dense(), rtol=0, atol=1e-6)
    plan = read_run(folder).plan
    assert plan is not None
    assert {(part.cut, part.binds) for part in plan.clients.values()} == {(8, "method")}


def test_a_run_whose_devices_hold_no_whole_model_fails_and_says_what_they_lack(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    small = {"strategy": "full-tuning", "num-server-rounds": 1, "simulation.fleet": "2MB,3MB"}
    with pytest.raises(HSplitError, match=r"client \S+/0 has 2 MB, needs .* lacks"):
        run_here(settings, tmp_path, small)
