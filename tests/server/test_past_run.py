"""A run's folder, read again."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hsplit_flower.errors import ConfigError
from hsplit_flower.methods import HSPLIT_LORA, SPLIT_LORA
from hsplit_flower.server.past_run import read_past_run
from hsplit_flower.settings import Model
from tests.server.past_runs import TRAINING, learnt, state_after, write_run

BASE = "llama-tiny"


def test_what_a_run_leaves_is_read_back(tmp_path: Path) -> None:
    method = state_after(learnt(BASE))
    run = read_past_run(write_run(tmp_path / "run", base=BASE, method=method))
    assert run.model == Model(name=BASE)
    assert run.training == TRAINING
    assert run.method is HSPLIT_LORA
    assert (run.history.num_completed, run.history.perplexity_after) == (1, 4.0)
    assert run.config["evaluation-examples"] == 7
    read = run.state.method
    assert read.updates.keys() == method.updates.keys()
    for name, update in method.updates.items():
        assert torch.equal(read.updates[name].b, update.b)


def test_the_method_is_the_one_that_the_run_had(tmp_path: Path) -> None:
    run = read_past_run(write_run(tmp_path / "run", base=BASE, strategy="split-lora"))
    assert run.method is SPLIT_LORA


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """The run with another configuration."""

    def rewrite(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        change(config)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    return rewrite


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "is no folder of a run"),
        (
            lambda folder: (folder / "config.json").write_text("[]", encoding="utf-8"),
            "is none of a run",
        ),
        (changed(lambda config: config.pop("model")), "the base's model.name are wanted"),
        (
            lambda folder: (folder / "state.safetensors").unlink(),
            "has no state.safetensors, which is written after every completed round: it is gone",
        ),
        (
            lambda folder: (folder / "state.safetensors").write_bytes(b"no"),
            "holds no state of a run",
        ),
        (
            changed(lambda config: config.update(strategy="fedavg")),
            "has strategy = 'fedavg': one of hsplit-lora, split-lora, full-tuning, ",
        ),
        (
            changed(lambda config: config["model"].update(dtype="int4")),
            "model.dtype = 'int4': one of 'float32'",
        ),
    ],
)
def test_what_is_no_run_is_refused_with_what_it_lacks(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = write_run(tmp_path / "run", base=BASE)
    spoil(folder)
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_past_run(folder)


def test_a_folder_that_is_not_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder of a run"):
        read_past_run(tmp_path / "absent")
