"""What PEFT does not adapt by name is no weight of ours: it could not be loaded."""

import pytest
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from hsplit_flower.splitting import read_architecture
from hsplit_flower.splitting.adaptable import is_adaptable
from tests.families import random_model, shrunk


def adapted_by_peft(model_type: str, name: str) -> bool:
    """Whether it is on a whole model of the type; which rules there are depends on the version."""
    model = random_model(shrunk(model_type))
    try:
        inject_adapter_in_model(LoraConfig(r=1, target_modules=[name]), model)
    except ValueError:
        return False
    return isinstance(model.get_submodule(name), LoraLayer)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("llama", "model.layers.0.mlp.gate_proj"),
        # Stands for the experts' parameters.
        ("qwen3_next", "model.layers.0.mlp.shared_expert.gate_proj"),
        ("qwen3_next", "model.layers.0.linear_attn.out_proj"),
        # Read by a fused kernel.
        ("nemotron_h", "model.layers.0.mixer.out_proj"),
        ("nemotron_h", "model.layers.0.mixer.in_proj"),
    ],
)
def test_what_peft_adapts_in_a_whole_model(model_type: str, name: str) -> None:
    assert is_adaptable(model_type, name) == adapted_by_peft(model_type, name)


def test_weights_are_those_that_peft_adapts() -> None:
    names = {
        weight.name.rpartition(".")[2] for weight in read_architecture(shrunk("mamba")).weights
    }
    assert names == {"in_proj", "x_proj", "dt_proj"}
