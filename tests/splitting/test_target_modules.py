"""Target modules are named as PEFT names them, and choose what PEFT chooses."""

import pytest
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from hsplit_flower.errors import ConfigError
from hsplit_flower.splitting.target_modules import target_weights
from tests.families import FAMILIES, random_model
from tests.rounds import architecture


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("llama", ["q_proj", "v_proj"]),
        ("llama", ["self_attn.k_proj", "down_proj"]),
        ("llama", ["layers.1.mlp.up_proj"]),
        ("gpt2", ["c_attn"]),
        ("gpt2", ["attn.c_proj"]),
        ("phi3", ["qkv_proj", "gate_up_proj"]),
    ],
)
def test_they_are_those_that_peft_adapts(family: str, names: list[str]) -> None:
    parts = architecture(family)
    model = random_model(FAMILIES[family].config())
    config = LoraConfig(r=1, target_modules=names, fan_in_fan_out=parts.is_transposed)
    inject_adapter_in_model(config, model)
    wanted = {name for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    found = target_weights(parts.weights, names, model_type=family)
    assert {weight.name for weight in found} == wanted


@pytest.mark.parametrize("names", [None, ("all-linear",), ("all-linear", "q_proj")])
def test_all_linear_layers_of_the_blocks_are_meant_where_none_is_named(
    names: tuple[str, ...] | None,
) -> None:
    weights = architecture("llama").weights
    assert target_weights(weights, names, model_type="llama") == weights


def test_a_name_that_is_no_weights_is_told_with_the_nearest() -> None:
    weights = architecture("llama").weights
    with pytest.raises(ConfigError) as caught:
        target_weights(weights, ("q_proj", "w_proj", "self_attn.vproj"), model_type="llama")
    told = str(caught.value)
    assert "'self_attn.vproj' (did you mean 'v_proj'?)" in told
    assert "called 'w_proj' (did you mean" in told
    assert "there are down_proj, gate_proj, k_proj" in told and "all-linear" in told
    with pytest.raises(ConfigError, match="did you mean 'all-linear'"):
        target_weights(weights, ("all_linear",), model_type="llama")
