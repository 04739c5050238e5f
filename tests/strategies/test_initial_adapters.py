"""Training that goes on from an adapter, and adapters that it cannot go on from."""

from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord

from hsplit_flower.adapters import (
    LowRank,
    export_adapter,
    import_adapter,
    to_state_dict,
)
from hsplit_flower.errors import ConfigError
from tests.reference.aggregation import relative_error
from tests.strategies.clients import (
    NODES,
    WatchedWorker,
    client_app,
    node_configs,
)
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of


def test_training_goes_on_from_a_peft_checkpoint(
    model: str, worker: WatchedWorker, tmp_path: Any
) -> None:
    strategy = strategy_of(model, worker=worker)
    with LocalGrid(client_app(), node_configs()) as grid:
        result = strategy.start(grid, num_rounds=1)
        folder = export_adapter(
            strategy.adapter.updates, tmp_path, base_model=model, is_transposed=False
        )
        at_once = strategy.start(grid, result.arrays, num_rounds=1)
        resumed = strategy_of(model, worker=worker)
        again = resumed.start(
            grid, ArrayRecord(to_state_dict(import_adapter(folder))), num_rounds=1
        )
    assert len(result.arrays)
    first, second = at_once.train_metrics_clientapp[1], again.train_metrics_clientapp[1]
    assert first["num-clients"] == second["num-clients"] == len(NODES)
    # Another plan (this one has no importance yet), but the same function at the first step.
    assert second["train-loss"] == pytest.approx(first["train-loss"], rel=0.02)
    loaded = import_adapter(folder)
    for name, update in loaded.items():
        given = result.arrays.to_torch_state_dict()
        wanted = given[f"{name}.lora_B.weight"].double() @ given[f"{name}.lora_A.weight"].double()
        assert relative_error(update, wanted) < 1e-6


def test_an_adapter_of_another_model_is_refused_before_anybody_trains(
    model: str, worker: WatchedWorker
) -> None:
    stranger = {
        "model.layers.7.self_attn.q_proj": LowRank(b=torch.ones(16, 1), a=torch.ones(1, 16))
    }
    strategy = strategy_of(model, worker=worker)
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(ConfigError, match=r"model\.layers\.7\.self_attn\.q_proj"),
    ):
        strategy.start(grid, ArrayRecord(to_state_dict(stranger)), num_rounds=1)
    assert not grid.sent


def test_factors_of_another_shape_are_refused_before_anybody_trains(
    model: str, worker: WatchedWorker
) -> None:
    name = "model.layers.0.self_attn.q_proj"
    wrong = {name: LowRank(b=torch.ones(8, 1), a=torch.ones(1, 16))}
    strategy = strategy_of(model, worker=worker)
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(ConfigError, match=rf"{name}.*\[8, 16\].*\[16, 16\]"),
    ):
        strategy.start(grid, ArrayRecord(to_state_dict(wrong)), num_rounds=1)
    assert not grid.sent
