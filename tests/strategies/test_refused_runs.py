"""What cannot work is said before anybody trains."""

import json
from pathlib import Path
from typing import Any

import pytest
from flwr.app import MessageType

from hsplit_flower.errors import ConfigError, InfeasibleBudgetError, UnsupportedModelError
from hsplit_flower.settings import Model, Training
from hsplit_flower.strategies import FedLoRA, FLoRA, FullTuning
from tests.splitting.checkpoints import single
from tests.strategies.clients import (
    NAMES,
    NODES,
    WatchedWorker,
    client_app,
    node_configs,
)
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of, training


def test_a_budget_too_small_for_anybody_names_them_all_before_anybody_trains(
    model: str, worker: WatchedWorker
) -> None:
    strategy = strategy_of(model, worker=worker, fleet="20KB,30KB,25KB")
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(InfeasibleBudgetError) as caught,
    ):
        strategy.start(grid, num_rounds=1)
    for node in NODES:
        assert f"client {NAMES[node]}" in str(caught.value)
    assert "25 kB" in str(caught.value)
    assert "lacks" in str(caught.value)
    assert all(m.metadata.message_type == MessageType.QUERY for m in grid.sent)


def test_bad_settings_are_refused_when_the_strategy_is_made(model: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"fraction_train.*1\.5"):
        strategy_of(model, fraction_train=1.5)
    with pytest.raises(ConfigError, match=r"sequence-length is 25: the model has 24 positions"):
        strategy_of(model, training=Training(batch_size=1, sequence_length=25))
    with pytest.raises(UnsupportedModelError, match="no-such-model"):
        strategy_of(str(tmp_path / "no-such-model"))


def test_a_fleet_that_cannot_be_read_is_refused_before_anybody_is_asked(
    model: str, worker: WatchedWorker
) -> None:
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(ConfigError, match="fleet 'plenty'"),
    ):
        strategy_of(model, worker=worker, fleet="plenty").start(grid, num_rounds=1)
    assert not grid.sent


def test_a_quantised_base_is_refused_where_its_weights_are_to_change(model: str) -> None:
    for method, does in ((FullTuning, "trains the weights"), (FLoRA, "adds the global adapter")):
        with pytest.raises(ConfigError, match=rf"{does}.*are quantised \(nf4\)"):
            method(Model(name=model, dtype="nf4"), training())
    # These leave them as they are.
    assert FedLoRA(Model(name=model, dtype="nf4"), training()).method.has_adapters


def test_what_others_have_quantised_is_refused_when_the_strategy_is_made(tmp_path: Path) -> None:
    folder = single("llama", tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match="is quantised by gptq"):
        strategy_of(str(folder))
