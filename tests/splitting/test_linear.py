"""Linear layers behind weights' names, whatever they store and whoever wrapped them."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from hsplit_flower.errors import AdapterError
from hsplit_flower.splitting.boundary import Passthrough
from hsplit_flower.splitting.linear import (
    add_product_to_weight_,
    add_to_weight_,
    linear_at,
    matrix_of,
)


def _model() -> nn.Module:
    return nn.ModuleDict({"linear": nn.Linear(3, 4), "conv": Conv1D(4, 3), "norm": nn.LayerNorm(4)})


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_the_matrix_is_out_by_in(name: str) -> None:
    layer = linear_at(_model(), name)
    x = torch.randn(2, 3)
    assert matrix_of(layer).shape == (4, 3)
    assert torch.allclose(layer(x), x @ matrix_of(layer).T + layer.bias)


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_an_update_is_added_in_place(name: str) -> None:
    layer = linear_at(_model(), name)
    x, update = torch.randn(2, 3), torch.randn(4, 3)
    before, memory = layer(x).detach(), layer.weight.data_ptr()
    add_to_weight_(layer, update)
    assert torch.allclose(layer(x), before + x @ update.T, atol=1e-6)
    assert layer.weight.data_ptr() == memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["linear", "conv"])
def test_a_product_is_added_in_place(name: str, dtype: torch.dtype) -> None:
    layer = linear_at(_model().to(dtype), name)
    b, a, memory = torch.randn(4, 2), torch.randn(2, 3), layer.weight.data_ptr()
    wanted = matrix_of(layer).detach() + (b @ a).to(dtype)
    add_product_to_weight_(layer, b, a)
    assert torch.allclose(matrix_of(layer), wanted, atol=1e-6)
    assert layer.weight.data_ptr() == memory


def test_a_layer_that_peft_wrapped_is_found() -> None:
    model = _model()
    plain = linear_at(model, "linear")
    inject_adapter_in_model(LoraConfig(target_modules=["linear"]), model)
    assert model.get_submodule("linear") is not plain
    assert linear_at(model, "linear") is plain


@pytest.mark.parametrize("name", ["norm", "nothing", "linear.weight", "linear.no.such"])
def test_what_is_no_linear_layer_is_refused(name: str) -> None:
    with pytest.raises(AdapterError, match=f"'{name}' is not a linear layer of this model"):
        linear_at(_model(), name)


def test_a_layer_of_the_other_half_is_not_this_halfs() -> None:
    """A stand-in answers for the modules of its block, to who asks it by name."""
    half = nn.ModuleDict({"block": Passthrough(replaced=_model())})
    with pytest.raises(AdapterError, match=r"'block\.linear' is not a linear layer of this model"):
        linear_at(half, "block.linear")
    assert [name for name, _ in half.named_modules()] == ["", "block"]
