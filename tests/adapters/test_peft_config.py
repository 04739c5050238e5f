"""What of a PEFT configuration is read, and what is refused by the name of its key."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import AdaLoraConfig, IA3Config, LoraConfig
from peft.utils.other import get_pattern_key

from hsplit_flower.adapters import updates_of_peft
from hsplit_flower.adapters.peft_config import _NOT_PLAIN, _NUMBERS, _WITHOUT_EFFECT, PlainLora
from hsplit_flower.errors import AdapterError

PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}


def read(config: Any) -> PlainLora:
    return PlainLora.of(config, "it")


def test_every_key_of_this_version_of_peft_is_known() -> None:
    """A new one is to be looked up in PEFT before it is put into one of the lists."""
    known = {*_NUMBERS, *_WITHOUT_EFFECT, *_NOT_PLAIN}
    assert {field.name for field in fields(LoraConfig)} <= known


def test_a_configuration_as_peft_has_it_is_read() -> None:
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj"],
        lora_dropout=0.1,
        fan_in_fan_out=True,
        layers_to_transform=[0],
        task_type="CAUSAL_LM",
        rank_pattern={"up": 2},
    )
    assert read(config) == read(config.to_dict())
    assert read(config).rank_of("x.0.up") == 2
    assert read(config).scale_of("x.0.up") == 4.0
    assert read(config).scale_of("x.0.down") == 2.0


NAMES = ("model.layers.1.self_attn.q_proj", "model.layers.11.self_attn.q_proj", "h.1.mlp.up")
PATTERNS = st.sampled_from(
    ["q_proj", r"layers\.1\.self_attn\.q_proj", "layers.1.*", "^h.1.mlp.up", "up|q_proj", "mlp"]
)


@given(
    ranks=st.dictionaries(PATTERNS, st.integers(1, 64)),
    alphas=st.dictionaries(PATTERNS, st.one_of(st.integers(-8, 64), st.floats(0.1, 64))),
    stabilised=st.booleans(),
)
def test_the_scale_is_the_one_peft_takes(
    ranks: dict[str, int], alphas: dict[str, float], stabilised: bool
) -> None:
    patterns = {"rank_pattern": ranks, "alpha_pattern": alphas}
    lora = read({**PLAIN, **patterns, "use_rslora": stabilised})
    for name in NAMES:
        rank = ranks.get(get_pattern_key(ranks.keys(), name), 4)
        alpha = alphas.get(get_pattern_key(alphas.keys(), name), 8)
        assert lora.rank_of(name) == rank
        assert lora.scale_of(name) == alpha / (math.sqrt(rank) if stabilised else rank)


MORE_THAN_PLAIN: Mapping[str, Any] = {
    "alora_invocation_tokens": [1, 2],
    "arrow_config": {"top_k": 3},
    "bias": "lora_only",
    "enable_lora": [True, False, True],
    "kasa_config": {"beta": 0.1},
    "layer_replication": [[0, 2], [1, 3]],
    "lora_bias": True,
    "megatron_config": {"hidden_size": 8},
    "modules_to_save": ["lm_head"],
    "monteclora_config": {"num_samples": 8},
    "target_parameters": ["experts.down_proj"],
    "trainable_token_indices": [3],
    "use_bdlora": {"nblocks": 2},
    "use_dora": True,
    "use_qalora": True,
    "velora_config": {"num_groups": 4},
    "of_a_later_version": {"new": 1},
    "scale_of_a_later_version": 0.5,
}


@pytest.mark.parametrize("key", MORE_THAN_PLAIN)
def test_what_is_more_than_plain_lora_is_refused_by_name(key: str) -> None:
    with pytest.raises(AdapterError, match=rf"not plain LoRA[^\0]*- {key} is .*merge_and_unload"):
        read({**PLAIN, key: MORE_THAN_PLAIN[key]})


def test_every_kind_that_is_refused_is_tried() -> None:
    assert set(_NOT_PLAIN) <= set(MORE_THAN_PLAIN)


@pytest.mark.parametrize("value", [None, False, [], {}, ""])
def test_keys_that_ask_for_nothing_are_in_nobodys_way(value: Any) -> None:
    """So that what a later version writes of plain LoRA is read."""
    asked = {key: value for key in MORE_THAN_PLAIN if key != "bias"}
    assert read({**PLAIN, **asked}) == read(PLAIN)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(AdapterError, match=r"init_lora_weights[^\0]*use_dora[^\0]*modules_to_save"):
        read({**PLAIN, "use_dora": True, "modules_to_save": ["x"], "init_lora_weights": "pissa"})


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("pissa", "path_initial_model_for_weight_conversion"),
        ("pissa_niter_16", "path_initial_model_for_weight_conversion"),
        ("PiSSA", "path_initial_model_for_weight_conversion"),
        ("olora", "path_initial_model_for_weight_conversion"),
        ("corda", "path_initial_model_for_weight_conversion"),
        ("lora_ga", "path_initial_model_for_weight_conversion"),
        ("loftq", "LoftQ has quantised.*merge_and_unload"),
        ("of_a_later_version", "not known here.*'gaussian'.*leave the base as it is"),
        (7, "not known here"),
        ({"kind": "pissa"}, "not known here"),
    ],
)
def test_a_beginning_that_changes_the_base_is_refused_by_name(init: Any, message: str) -> None:
    with pytest.raises(AdapterError, match=f"init_lora_weights is {init!r}: .*{message}"):
        read({**PLAIN, "init_lora_weights": init})


@pytest.mark.parametrize(
    "init", [None, True, False, "gaussian", "Gaussian", "orthogonal", "eva", "mica"]
)
def test_a_beginning_that_leaves_the_base_alone_is_read(init: Any) -> None:
    assert read({**PLAIN, "init_lora_weights": init}) == read(PLAIN)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        *[("r", value, "r is") for value in (None, 0, -1, "4", 4.0, True, [4], math.nan)],
        *[
            ("lora_alpha", value, "lora_alpha is")
            for value in (None, "8", True, [8], math.nan, math.inf, -math.inf, 10**400)
        ],
        ("use_rslora", "false", "use_rslora is 'false'"),
        ("use_rslora", None, "use_rslora is None"),
        ("rank_pattern", ["q"], r"rank_pattern is \['q'\]"),
        ("rank_pattern", {"q": 0}, "rank_pattern of 'q' is 0"),
        ("rank_pattern", {"q": None}, "rank_pattern of 'q' is missing"),
        ("rank_pattern", {"q(": 3}, r"rank_pattern has 'q\(', which is no regular expression"),
        ("alpha_pattern", "q", "alpha_pattern is 'q'"),
        ("alpha_pattern", {"q": "2"}, "alpha_pattern of 'q' is '2'"),
        ("alpha_pattern", {"*": 2}, "alpha_pattern has"),
        ("peft_type", None, "peft_type is None, 'LORA' is wanted"),
        ("peft_type", 3, "peft_type is 3"),
    ],
)
def test_values_of_which_no_scale_can_be_made_are_refused_by_key(
    key: str, value: Any, message: str
) -> None:
    with pytest.raises(AdapterError, match=f"it.*{message}"):
        read({**PLAIN, key: value})


@pytest.mark.parametrize("key", PLAIN)
def test_what_every_scale_is_made_of_must_be_there(key: str) -> None:
    with pytest.raises(AdapterError, match=f"{key} is (missing|None)"):
        read({name: value for name, value in PLAIN.items() if name != key})


@pytest.mark.parametrize("config", [AdaLoraConfig(total_step=1), IA3Config(), None, [1], "LORA"])
def test_another_kind_of_adapter_is_refused(config: Any, unchecked_shapes: None) -> None:
    with pytest.raises(AdapterError, match=r"'LORA' is wanted|a LoraConfig, or a mapping"):
        updates_of_peft({"base_model.model.x.lora_A.weight": torch.ones(1, 2)}, config)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


# The first draw makes the strategies of every key, which a busy machine takes seconds for.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(values=st.dictionaries(st.sampled_from([*_NUMBERS, *_NOT_PLAIN, *_WITHOUT_EFFECT]), JSON))
def test_whatever_a_file_holds_is_read_or_refused(values: dict[str, Any]) -> None:
    try:
        lora = read({**PLAIN, **values, "peft_type": "LORA"})
    except AdapterError:
        return
    assert lora.rank >= 1 and math.isfinite(lora.scale_of("x"))
