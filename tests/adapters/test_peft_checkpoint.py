"""The global adapter as a standard PEFT checkpoint: PEFT reads ours, and we read PEFT's."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GPT2Config, LlamaConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hsplit_flower.adapters import (
    LowRank,
    export_adapter,
    from_state_dict,
    import_adapter,
    to_state_dict,
)
from hsplit_flower.errors import AdapterError
from hsplit_flower.splitting import read_architecture
from tests.families import GPT2_SHAPED, LLAMA_SHAPED, VOCABULARY, random_model, save
from tests.reference.unsplit import peft_calls_old_names
from tests.tolerances import assert_same

CONFIGS = {
    "llama": LlamaConfig(**(LLAMA_SHAPED | {"num_hidden_layers": 12})),
    "gpt2": GPT2Config(**(GPT2_SHAPED | {"n_layer": 12})),
}
IDS = torch.arange(3, 27).reshape(2, 12) % VOCABULARY


def _updates(name: str) -> dict[str, LowRank]:
    """Another rank for every weight, 0 among them; block 11's are not block 1's."""
    generator = torch.Generator().manual_seed(3)
    updates = {}
    for index, weight in enumerate(read_architecture(CONFIGS[name]).weights):
        rank = index % 6
        updates[weight.name] = LowRank(
            b=0.1 * torch.randn(weight.out_features, rank, generator=generator),
            a=torch.randn(rank, weight.in_features, generator=generator),
        )
    return updates


@torch.no_grad()
def _with_updates(model: PreTrainedModel, updates: dict[str, LowRank]) -> PreTrainedModel:
    for name, update in updates.items():
        module = model.get_submodule(name)
        dense = update.dense()
        module.weight.add_(dense.T if isinstance(module, Conv1D) else dense)
    return model


def _loaded(base: PreTrainedModel, folder: Path) -> PeftModel:
    with peft_calls_old_names():
        return PeftModel.from_pretrained(base, str(folder)).eval()


def _equal(got: dict[str, LowRank], wanted: dict[str, LowRank]) -> bool:
    return got.keys() == wanted.keys() and all(
        torch.equal(got[n].b, wanted[n].b) and torch.equal(got[n].a, wanted[n].a) for n in wanted
    )


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_peft_reads_what_we_write(name: str, tmp_path: Path) -> None:
    """More than ten blocks, so that patterns of block 1 could also match block 11."""
    base = save(random_model(CONFIGS[name]), tmp_path / "base")
    updates = _updates(name)
    export_adapter(
        updates, tmp_path / "adapter", base_model=str(base), is_transposed=name == "gpt2"
    )
    peft_model = _loaded(random_model(CONFIGS[name]), tmp_path / "adapter")
    wanted = _with_updates(random_model(CONFIGS[name]), updates)(IDS).logits
    assert_same(peft_model(IDS).logits, wanted)
    assert (wanted - random_model(CONFIGS[name])(IDS).logits).abs().max() > 0.1
    layers = {n: m for n, m in peft_model.base_model.model.named_modules() if hasattr(m, "lora_A")}
    ranks = {n: layer.lora_A["default"].out_features for n, layer in layers.items()}
    assert ranks == {n: update.rank for n, update in updates.items() if update.rank}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_exported_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    updates = _updates(name)
    folder = export_adapter(updates, tmp_path / "new", base_model="x", is_transposed=False)
    assert folder == tmp_path / "new"
    assert _equal(import_adapter(folder), {n: u for n, u in updates.items() if u.rank})


def test_exporting_again_replaces_what_was_there(tmp_path: Path) -> None:
    updates = _updates("llama")
    export_adapter(updates, tmp_path, base_model="x", is_transposed=False)
    name = next(n for n, u in updates.items() if u.rank)
    few = {name: updates[name]}
    export_adapter(few, tmp_path, base_model="x", is_transposed=False)
    assert _equal(import_adapter(tmp_path), few)


def test_a_part_of_an_update_can_be_exported(tmp_path: Path) -> None:
    """It is a view, and not contiguous."""
    updates = {"x.0.up": LowRank(b=torch.randn(5, 4), a=torch.randn(4, 3)).head(2)}
    export_adapter(updates, tmp_path, base_model="x", is_transposed=False)
    assert _equal(import_adapter(tmp_path), updates)


def test_the_settings_name_the_base_and_the_ranks(tmp_path: Path) -> None:
    export_adapter(_updates("llama"), tmp_path, base_model="owner/base", is_transposed=False)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "owner/base"
    assert (settings["peft_type"], settings["task_type"]) == ("LORA", "CAUSAL_LM")
    assert settings["rank_pattern"] == settings["alpha_pattern"]
    assert len(settings["rank_pattern"]) == len(settings["target_modules"])


def test_an_adapter_without_ranks_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="every weight of the adapter has rank 0"):
        export_adapter(
            {"x": LowRank.zeros(3, 2)}, tmp_path / "a", base_model="x", is_transposed=False
        )
    assert not (tmp_path / "a").exists()


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
    with warnings.catch_warnings():
        # Older versions look for the configuration of a model that was never saved.
        warnings.filterwarnings("ignore", message="Could not find a config file")
        peft_model.save_pretrained(str(tmp_path))
    updates = import_adapter(tmp_path)
    assert len(updates) == 12 * len(targets)
    assert_same(_with_updates(random_model(CONFIGS["llama"]), updates)(IDS).logits, wanted)


def test_half_precision_factors_are_read_as_float32(tmp_path: Path) -> None:
    updates = _updates("llama")
    export_adapter(updates, tmp_path, base_model="x", is_transposed=False)
    file = tmp_path / "adapter_model.safetensors"
    save_file({k: t.bfloat16() for k, t in load_file(file).items()}, file)
    for name, update in import_adapter(tmp_path).items():
        assert torch.equal(update.b, updates[name].b.bfloat16().float())


def _remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def _setting(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def _tensors(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return rewrite


def _pickled(folder: Path) -> None:
    torch.save({}, folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def _damaged(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"damaged")


KEY = "base_model.model.x.0.up.lora_"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_setting(use_dora=True), r"not plain LoRA.*\['use_dora'\]"),
        (_setting(lora_bias=True), "not plain LoRA.*lora_bias"),
        (_setting(modules_to_save=["lm_head"]), "not plain LoRA.*modules_to_save"),
        (_setting(peft_type="IA3"), "not plain LoRA: peft_type 'IA3'"),
        (_remove("adapter_config.json"), r"no readable adapter_config\.json"),
        (_remove("adapter_model.safetensors"), r"no readable adapter_model\.safetensors"),
        (_pickled, "pickle files are refused"),
        (_damaged, r"no readable adapter_model\.safetensors"),
        (_tensors(lambda t: t.pop(f"{KEY}A.weight")), "'x.0.up' lacks its factor.*lora_A"),
        (_tensors(lambda t: t.pop(f"{KEY}B.weight")), "'x.0.up' lacks its factor.*lora_B"),
        (
            _tensors(lambda t: t.update({f"{KEY}magnitude_vector": torch.ones(5)})),
            "unexpected tensor 'x.0.up.lora_magnitude_vector'",
        ),
        (
            _tensors(lambda t: t.update({f"{KEY}A.weight": torch.ones(3, 3)})),
            "do not multiply",
        ),
    ],
)
def test_what_is_more_or_less_than_plain_lora_is_refused(
    break_it: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    updates = {"x.0.up": LowRank(b=torch.randn(5, 4), a=torch.randn(4, 3))}
    export_adapter(updates, tmp_path, base_model="x", is_transposed=False)
    break_it(tmp_path)
    with pytest.raises(AdapterError, match=message):
        import_adapter(tmp_path)


def test_a_configuration_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(AdapterError, match=r"no readable adapter_config\.json"):
        import_adapter(tmp_path)


def test_state_dicts_hold_what_has_a_rank() -> None:
    updates = {"a.up": LowRank(b=torch.randn(4, 2), a=torch.randn(2, 3)), "b": LowRank.zeros(4, 3)}
    state = to_state_dict(updates)
    assert sorted(state) == ["a.up.lora_A.weight", "a.up.lora_B.weight"]
    assert _equal(from_state_dict(state), {"a.up": updates["a.up"]})
    assert from_state_dict({}) == {}


@pytest.mark.parametrize("key", ["a.weight", "lora_A.weight", "a.lora_C.weight", ".lora_A.weight"])
def test_keys_that_are_no_factors_are_refused(key: str) -> None:
    with pytest.raises(AdapterError, match=f"unexpected tensor '{key}'.*are wanted"):
        from_state_dict({key: nn.Parameter(torch.ones(2, 2))})
