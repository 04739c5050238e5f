"""Training that goes on from what PEFT gives of a model, with PEFT's scale or not at all."""

import pytest
import torch
from flwr.app import ArrayRecord, MessageType, MetricRecord
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict

from hsplit_flower.adapters import from_state_dict
from hsplit_flower.errors import AdapterError, ConfigError
from hsplit_flower.server import ServerEvaluation
from tests.families import fields
from tests.reference.aggregation import relative_error
from tests.reference.unsplit import base_model, peft_calls_old_names
from tests.strategies.clients import WatchedWorker, client_app, node_configs
from tests.strategies.local_grid import LocalGrid
from tests.strategies.tiny import strategy_of

# Older versions of PEFT look for the configuration of a model that was never saved.
pytestmark = pytest.mark.filterwarnings("ignore:Could not find a config file")

BATCH = fields("unpadded", 5)


def adapted() -> PeftModel:
    """A trained adapter whose products are multiplied by eight."""
    config = LoraConfig(
        r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    )
    with peft_calls_old_names():
        return get_peft_model(base_model("llama"), config).eval()


def test_a_run_starts_from_pefts_very_function(model: str, worker: WatchedWorker) -> None:
    peft_model = adapted()
    with torch.no_grad():
        wanted = float(peft_model(**BATCH, use_cache=False).loss)
    evaluation = ServerEvaluation(model, lambda: [BATCH], device="cpu")
    losses: list[float] = []

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        metrics = evaluation(server_round, arrays)
        losses.append(float(metrics["loss"]))
        return metrics

    strategy = strategy_of(model, worker=worker)
    with LocalGrid(client_app(), node_configs()) as grid:
        strategy.start(
            grid,
            ArrayRecord(get_peft_model_state_dict(peft_model)),
            num_rounds=1,
            evaluate_fn=evaluate,
            initial_config=peft_model.peft_config["default"],
        )
    assert losses[0] == pytest.approx(wanted, rel=1e-5)
    assert abs(losses[0] - evaluation.evaluate({}).mean) > 1e-2
    told = [m for m in grid.sent if m.metadata.message_type == MessageType.TRAIN]
    for message in told:
        sent = from_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
        assert sent
        for name, update in sent.items():
            layer = peft_model.base_model.model.get_submodule(name)
            delta = layer.get_delta_weight("default").detach().double()
            # What is sent may be cut to its size: that is far from a wrong scale.
            assert relative_error(update, delta) < 0.05


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (None, ConfigError, "initial_config.*import_adapter"),
        (LoraConfig(r=8, lora_alpha=32), AdapterError, "its rank is 8"),
        (LoraConfig(r=4, lora_alpha=32, init_lora_weights="pissa"), AdapterError, "pissa"),
        ({"peft_type": "LORA", "r": 4}, AdapterError, "lora_alpha is missing"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_starts(
    config: LoraConfig | None,
    error: type[Exception],
    message: str,
    model: str,
    worker: WatchedWorker,
) -> None:
    arrays = ArrayRecord(get_peft_model_state_dict(adapted()))
    with (
        LocalGrid(client_app(), node_configs()) as grid,
        pytest.raises(error, match=message),
    ):
        strategy_of(model, worker=worker).start(grid, arrays, num_rounds=1, initial_config=config)
    assert not grid.sent
