"""Adapters that PEFT made: on an unchanged base they mean the same here, others are refused."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from hsplit_flower.adapters import import_adapter
from hsplit_flower.errors import AdapterError
from tests.adapters.peft_models import CONFIGS, IDS, with_updates
from tests.families import random_model
from tests.reference.unsplit import peft_calls_old_names
from tests.tolerances import assert_same

FOREIGN = {
    "alpha is not the rank": {"r": 4, "lora_alpha": 10},
    "rank-stabilised": {"r": 9, "lora_alpha": 6, "use_rslora": True},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 3, "down_proj": 5},
        "alpha_pattern": {r"layers.(1|2).self_attn.q_proj": 7, "self_attn.v_proj": 16},
    },
}


@torch.no_grad()
@pytest.mark.parametrize("case", FOREIGN)
def test_we_read_what_peft_writes(case: str, tmp_path: Path) -> None:
    targets = ["q_proj", "v_proj", "up_proj", "down_proj"]
    with peft_calls_old_names():
        config = LoraConfig(target_modules=targets, init_lora_weights=False, **FOREIGN[case])
        peft_model = get_peft_model(random_model(CONFIGS["llama"]), config).eval()
    wanted = peft_model(IDS).logits
    _save(peft_model, tmp_path)
    updates = import_adapter(tmp_path)
    assert len(updates) == 12 * len(targets)
    assert_same(with_updates(random_model(CONFIGS["llama"]), updates)(IDS).logits, wanted)


@torch.no_grad()
def _trained(tmp_path: Path, **settings: Any) -> tuple[PeftModel, Path]:
    """What PEFT computes with an adapter after steps of training, and where it is saved."""
    with peft_calls_old_names():
        config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], **settings)
        model = get_peft_model(random_model(CONFIGS["llama"]), config).eval()
    _save_with(model, tmp_path / "first", init_lora_weights=True)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model, tmp_path / "first"


def _save_with(model: PeftModel, folder: Path, **settings: Any) -> None:
    """Save under another setting, as PEFT's guide to conversion says; it is as it was after it."""
    config = model.peft_config["default"]
    before = {key: getattr(config, key) for key in settings}
    vars(config).update(settings)
    _save(model, folder)
    vars(config).update(before)


def _save(model: PeftModel, folder: Path, **arguments: Any) -> None:
    with warnings.catch_warnings():
        # Older versions look for the configuration of a model that was never saved.
        warnings.filterwarnings("ignore", message="Could not find a config file")
        # It says so of the second adapter that its own conversion loads.
        warnings.filterwarnings("ignore", message=".*changes the base weights of the model.*")
        model.save_pretrained(str(folder), **arguments)


@torch.no_grad()
@pytest.mark.parametrize("init", [True, False, "gaussian", "orthogonal", "eva", "mica"])
def test_what_began_in_another_way_on_the_same_base_is_read(
    init: bool | str, tmp_path: Path
) -> None:
    if init == "mica" and "mica" not in str(LoraConfig.__doc__):
        pytest.skip("this version of PEFT has no MiCA")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*eva.*")
        model, _ = _trained(tmp_path, init_lora_weights=init)
    _save(model, tmp_path)
    got = with_updates(random_model(CONFIGS["llama"]), import_adapter(tmp_path))(IDS).logits
    assert_same(got, model(IDS).logits)


@torch.no_grad()
@pytest.mark.parametrize("init", ["pissa", "pissa_niter_2", "olora"])
def test_what_changed_the_base_is_read_once_peft_has_converted_it(
    init: str, tmp_path: Path
) -> None:
    """The way that the error names leads to the same function."""
    model, first = _trained(tmp_path, init_lora_weights=init)
    _save(model, tmp_path / "as it is")
    with pytest.raises(AdapterError, match=f"'{init}'.*path_initial_model_for_weight_conversion"):
        import_adapter(tmp_path / "as it is")
    wanted = model(IDS).logits
    _save(model, tmp_path / "plain", path_initial_model_for_weight_conversion=str(first))
    updates = import_adapter(tmp_path / "plain")
    assert_same(with_updates(random_model(CONFIGS["llama"]), updates)(IDS).logits, wanted)
