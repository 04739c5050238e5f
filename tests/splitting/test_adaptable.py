"""What PEFT does not adapt by name is no weight of ours: it could not be loaded."""

import pytest

from hsplit_flower.splitting import read_architecture
from hsplit_flower.splitting.adaptable import is_adaptable
from tests.families import shrunk


@pytest.mark.parametrize(
    ("model_type", "name", "wanted"),
    [
        ("llama", "model.layers.0.mlp.gate_proj", True),
        # Stands for the experts' parameters.
        ("qwen3_next", "model.layers.0.mlp.shared_expert.gate_proj", False),
        ("qwen3_next", "model.layers.0.linear_attn.out_proj", True),
        # Read by a fused kernel.
        ("nemotron_h", "model.layers.0.mixer.out_proj", False),
        ("nemotron_h", "model.layers.0.mixer.in_proj", True),
    ],
)
def test_what_peft_adapts(model_type: str, name: str, wanted: bool) -> None:
    assert is_adaptable(model_type, name) == wanted


def test_weights_are_those_that_peft_adapts() -> None:
    names = {
        weight.name.rpartition(".")[2] for weight in read_architecture(shrunk("mamba")).weights
    }
    assert names == {"in_proj", "x_proj", "dt_proj"}
