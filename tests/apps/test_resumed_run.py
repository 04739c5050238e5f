"""A run that goes on after its server died: as if nothing had happened, in the same folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hsplit_flower.adapters import import_adapter
from hsplit_flower.errors import ConfigError, HSplitError
from hsplit_flower.reports import ServerEvaluationLine
from hsplit_flower.runs import RunRecord
from hsplit_flower.server.past_run import read_past_run

from .one_process import run_here

pytestmark = pytest.mark.usefixtures("app_on_the_path")
ROUNDS = 2


def lines_of(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def perplexities(folder: Path) -> dict[int, float]:
    return {
        line["server-round"]: line["perplexity"]
        for line in lines_of(folder)
        if "perplexity" in line
    }


class PowerCut(BaseException):
    """Ends a process where it stands: nothing of ours catches it."""


def cut_while_evaluating(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Have the server die in the evaluation after a round."""

    def die(self: Any, server_round: int, metrics: Any) -> None:
        if server_round == at:
            raise PowerCut
        before(self, server_round, metrics)

    before = RunRecord.evaluated
    monkeypatch.setattr(RunRecord, "evaluated", die)


def test_it_ends_as_the_undisturbed_run_does(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = {"num-server-rounds": ROUNDS, "aggregation.momentum": 0.3}
    whole = run_here(settings, tmp_path / "whole", changed)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut_while_evaluating(patch, at=1)
        run_here(settings, tmp_path / "cut", changed)
    folder = tmp_path / "cut" / whole.name
    assert read_past_run(folder).state.server_round == 1
    # What a round left that was not whole is not counted.
    with open(folder / "metrics.jsonl", "a", encoding="utf-8") as file:
        line = ServerEvaluationLine(server_round=2, loss=0.0, perplexity=1.0)
        file.write(json.dumps(line.to_dict()) + '\n{"server-round": 2, "cl')
    # Where it goes on, nothing is made that the run-config names for new runs, and nothing read.
    going_on = {**changed, "resume": str(folder), "adapter": str(tmp_path / "gone")}
    run_here(settings, tmp_path / "elsewhere", going_on)
    assert not (tmp_path / "elsewhere").exists()
    wanted, got = perplexities(whole), perplexities(folder)
    assert got.keys() == wanted.keys() == set(range(ROUNDS + 1))
    for server_round, value in wanted.items():
        assert got[server_round] == pytest.approx(value, rel=1e-6)
    trained = [line["server-round"] for line in lines_of(folder) if "clients" in line]
    assert trained == [1, 2]
    theirs = import_adapter(whole / "adapter")
    for name, update in import_adapter(folder / "adapter").items():
        wanted_update = theirs[name].dense()
        error = torch.linalg.norm(update.dense() - wanted_update)
        assert float(error) <= 1e-6 * max(1.0, float(torch.linalg.norm(wanted_update)))


@pytest.mark.long
def test_it_is_refused_where_something_else_would_be_learnt(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    quick = {"num-server-rounds": 1, "server-evaluation": False}
    folder = run_here(settings, tmp_path, quick)
    going_on = {**quick, "num-server-rounds": 2, "resume": str(folder)}
    other = {
        **going_on,
        "local-steps": 2,
        "training.learning-rate": 0.5,
        "link.wire-type": "int8",
        "link.patience-seconds": 7.0,
    }
    with pytest.raises(ConfigError) as refused:
        run_here(settings, tmp_path, other)
    told = str(refused.value)
    assert "local-steps is 2 and was 1 there" in told
    assert "training.learning-rate is 0.5 and was 0.008 there" in told
    assert "link.wire-type is 'int8'" in told
    assert "link.patience-seconds" not in told, "it changes nothing that is learnt"
    with pytest.raises(ConfigError, match="nothing is left to do; ask for more rounds"):
        run_here(settings, tmp_path, {**going_on, "num-server-rounds": 1})
    nowhere = {**going_on, "resume": str(tmp_path / "nowhere")}
    with pytest.raises(ConfigError, match=r"is no folder of a run"):
        run_here(settings, tmp_path, nowhere)
    # And it is as it was.
    assert read_past_run(folder).history.num_completed == 1
    shutil.rmtree(folder / "adapter")
    (folder / "state.safetensors").write_bytes(b"torn")
    with pytest.raises(HSplitError, match=r"state.safetensors holds no state of a run"):
        run_here(settings, tmp_path, going_on)
