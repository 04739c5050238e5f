"""A base with an adapter in its weights: transformers loads it, and it is ``round(W + B A)``."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from hsplit_flower.adapters import LowRank
from hsplit_flower.adapters.merged_checkpoint import merge_into
from hsplit_flower.errors import AdapterError, ConfigError, UnsupportedModelError
from hsplit_flower.splitting import Checkpoint, read_architecture
from tests.families import FAMILIES, checkpoint, fields, random_model, save
from tests.splitting.checkpoints import rewrite, sharded, single

HALF_STEP = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""The most that rounding changes a number by, of its own size."""
SMALLEST = {torch.float32: 2.0**-150, torch.bfloat16: 2.0**-134, torch.float16: 2.0**-25}
"""The same of numbers that are nearly none."""


def adapter(folder: Path, *, rank: int = 3, size: float = 0.1) -> dict[str, LowRank]:
    """An update of every weight but the first, which has none."""
    generator = torch.Generator().manual_seed(5)
    weights = read_architecture(Checkpoint(source=str(folder)).config()).weights
    return {
        weight.name: LowRank(
            b=size * torch.randn(weight.out_features, rank * (n > 0), generator=generator),
            a=torch.randn(rank * (n > 0), weight.in_features, generator=generator),
        )
        for n, weight in enumerate(weights)
    }


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return {name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


def exact(folder: Path, updates: dict[str, LowRank]) -> dict[str, Tensor]:
    """Every tensor with what is added to it, in float64."""
    is_transposed = read_architecture(Checkpoint(source=str(folder)).config()).is_transposed
    sums = {}
    for key, tensor in tensors_of(folder).items():
        name = next((n for n in updates if f"{n}.weight".endswith(key)), None)
        sums[key] = tensor.double()
        if name is not None:
            product = updates[name].b.double() @ updates[name].a.double()
            sums[key] = sums[key] + (product.T if is_transposed else product)
    return sums


def assert_rounded_once(got: Tensor, wanted: Tensor) -> None:
    """As near to the exact sum as its type allows, but for float32's error in summing."""
    error = (got.double() - wanted).abs()
    scale = wanted.abs().max()
    allowed = HALF_STEP[got.dtype] * wanted.abs() + SMALLEST[got.dtype] + 1e-6 * scale
    assert bool((error <= allowed).all()), float((error - allowed).max())


def loaded(folder: Path) -> PreTrainedModel:
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    return model.eval()


def in_dtype(name: str, folder: Path, dtype: torch.dtype) -> Path:
    """The family's model with its numbers in another type."""
    family = FAMILIES[name]
    return save(random_model(family.config(), family.attention).to(dtype), folder)


@pytest.mark.parametrize("dtype", HALF_STEP, ids=str)
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "phi3"])
@pytest.mark.one_in(2)
def test_a_merged_weight_is_the_exact_sum_rounded_once(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    base = in_dtype(name, tmp_path / "base", dtype)
    updates = adapter(base)
    merged = merge_into(updates, tmp_path / "merged", base=Checkpoint(source=str(base)))
    got, before = tensors_of(merged), tensors_of(base)
    assert got.keys() == before.keys()
    changed = set()
    for key, wanted in exact(base, updates).items():
        assert got[key].dtype is dtype
        assert_rounded_once(got[key], wanted)
        if not torch.equal(got[key], before[key]):
            changed.add(key)
    assert len(changed) == len(updates) - 1
    files = {file.name for file in base.iterdir()}
    assert {file.name for file in merged.iterdir()} == files
    assert (merged / "config.json").read_bytes() == (base / "config.json").read_bytes()


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
@torch.no_grad()
def test_the_merged_model_computes_what_base_and_adapter_compute(tmp_path: Path, name: str) -> None:
    base = checkpoint(name)
    updates = adapter(base)
    merged = loaded(merge_into(updates, tmp_path / "m", base=Checkpoint(source=str(base))))
    by_hand = loaded(base)
    is_transposed = name == "gpt2"
    for weight, update in updates.items():
        product = update.dense()
        by_hand.get_submodule(weight).weight.add_(product.T if is_transposed else product)
    batch = {key: value for key, value in fields().items() if key != "labels"}
    torch.testing.assert_close(merged(**batch).logits, by_hand(**batch).logits)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_shards_stay_as_they_are_divided(tmp_path: Path, name: str) -> None:
    base = sharded(name, tmp_path / "base")
    assert len(list(base.glob("*.safetensors"))) > 3
    updates = adapter(base)
    merged = merge_into(updates, tmp_path / "merged", base=Checkpoint(source=str(base)))
    before = json.loads((base / "model.safetensors.index.json").read_text(encoding="utf-8"))
    after = json.loads((merged / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert after["weight_map"] == before["weight_map"]
    assert after["metadata"]["total_size"] == before["metadata"]["total_size"]
    for file in base.glob("*.safetensors"):
        with safe_open(file, "pt") as old, safe_open(merged / file.name, "pt") as new:
            assert set(old.keys()) == set(new.keys()) and old.metadata() == new.metadata()
    got = tensors_of(merged)
    for key, wanted in exact(base, updates).items():
        assert_rounded_once(got[key], wanted)
    loaded(merged)


def test_names_without_the_models_prefix_are_kept(tmp_path: Path) -> None:
    base = single("gpt2", tmp_path)
    rewrite(base, lambda old: {key.removeprefix("transformer."): t for key, t in old.items()})
    updates = adapter(base)
    merged = merge_into(updates, tmp_path / "merged", base=Checkpoint(source=str(base)))
    got = tensors_of(merged)
    assert "h.0.attn.c_attn.weight" in got
    for key, wanted in exact(base, updates).items():
        assert_rounded_once(got[key], wanted)
    assert not torch.equal(got["h.1.mlp.c_fc.weight"], tensors_of(base)["h.1.mlp.c_fc.weight"])
    loaded(merged)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_type_is_that_of_all_weights_and_of_the_configuration(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    base = sharded("llama", tmp_path / "base")
    updates = adapter(base)
    source = Checkpoint(source=str(base))
    merged = merge_into(updates, tmp_path / "merged", base=source, dtype=dtype)
    for key, wanted in exact(base, updates).items():
        assert_rounded_once(tensors_of(merged)[key], wanted)
    assert {tensor.dtype for tensor in tensors_of(merged).values()} == {dtype}
    assert loaded(merged).dtype is dtype
    total = sum(tensor.nbytes for tensor in tensors_of(merged).values())
    index = json.loads((merged / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["metadata"]["total_size"] == total


def test_the_built_in_base_keeps_its_tokenizer(tmp_path: Path, llama_tiny: Path) -> None:
    (tmp_path / "merged").mkdir()
    updates = adapter(llama_tiny)
    merged = merge_into(updates, tmp_path / "merged", base=Checkpoint(source="llama-tiny"))
    files = {file.name for file in llama_tiny.iterdir()}
    assert {file.name for file in merged.iterdir()} == files
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    base = Checkpoint(source=str(checkpoint("llama")))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").touch()
    (tmp_path / "file").touch()
    for name in ("there", "file"):
        with pytest.raises(ConfigError, match="not an empty folder"):
            merge_into(adapter(checkpoint("llama")), tmp_path / name, base=base)


def refused(base: Path, updates: dict[str, LowRank], message: str, error: type[Exception]) -> None:
    """Nothing is left of a merge that is refused."""
    target = base.parent / "merged"
    with pytest.raises(error, match=message):
        merge_into(updates, target, base=Checkpoint(source=str(base)))
    assert not list(base.parent.glob("merged*"))


def test_a_quantised_base_is_refused(tmp_path: Path) -> None:
    base = single("llama", tmp_path)
    updates = adapter(base)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    refused(base, updates, "nothing is ever merged into a quantised", UnsupportedModelError)


def test_whole_numbers_are_refused_though_no_configuration_says_so(tmp_path: Path) -> None:
    base = single("llama", tmp_path)
    updates = adapter(base)
    key = "model.layers.1.mlp.up_proj.weight"
    rewrite(base, lambda old: {**old, key: old[key].to(torch.int8)})
    refused(base, updates, f"{key[:-7]}.*whole numbers.*quantised", UnsupportedModelError)


def test_a_weight_that_is_not_stored_under_its_name_is_named(tmp_path: Path) -> None:
    base = single("llama", tmp_path)
    updates = adapter(base)
    key = "model.layers.1.mlp.up_proj.weight"
    rewrite(base, lambda old: {re.sub("up_proj", "w1", name): t for name, t in old.items()})
    message = f"stores no tensor for 'model.layers.0.mlp.up_proj'.*{key.replace('.1.', '.0.')}"
    refused(base, updates, message, UnsupportedModelError)


def test_a_weight_that_the_loader_changes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import conversion_mapping
    from transformers.core_model_loading import Transpose, WeightConverter

    turned = WeightConverter(
        source_patterns=["self_attn.o_proj.weight"],
        target_patterns=["self_attn.o_proj.weight"],
        operations=[Transpose(dim0=0, dim1=1)],
    )
    base = single("llama", tmp_path)
    updates = adapter(base)
    kept = conversion_mapping.get_checkpoint_conversion_mapping
    monkeypatch.setattr(
        conversion_mapping,
        "get_checkpoint_conversion_mapping",
        lambda kind: [turned] if kind == "llama" else kept(kind),
    )
    message = r"'model\.layers\.0\.self_attn\.o_proj' in another form"
    refused(base, updates, message, UnsupportedModelError)


def test_an_adapter_of_another_model_is_refused_by_the_weight(tmp_path: Path) -> None:
    base = single("llama", tmp_path)
    other = {"model.layers.0.mlp.up_proj": LowRank(b=torch.ones(3, 1), a=torch.ones(1, 5))}
    refused(
        base, other, r"'model\.layers\.0\.mlp\.up_proj' is for a tensor of \[3, 5\]", AdapterError
    )
    unknown = {"model.layers.9.mlp.up_proj": other["model.layers.0.mlp.up_proj"]}
    refused(base, unknown, r"'model\.layers\.9\.mlp\.up_proj' is not a linear layer", AdapterError)


def test_a_sum_that_the_type_does_not_hold_is_refused(tmp_path: Path) -> None:
    base = in_dtype("llama", tmp_path / "base", torch.float16)
    refused(base, adapter(base, size=1e6), r"torch\.float16 does not hold", AdapterError)


def test_a_shard_that_lacks_what_the_index_lists_is_refused(tmp_path: Path) -> None:
    base = sharded("llama", tmp_path / "base")
    updates = adapter(base)
    file = max(base.glob("*.safetensors"), key=lambda each: len(load_file(each)))
    kept = dict(list(load_file(file).items())[1:])
    save_file(kept, file, metadata={"format": "pt"})
    refused(base, updates, "shards of .* lack", UnsupportedModelError)


def test_an_index_cannot_make_us_write_elsewhere(tmp_path: Path) -> None:
    base = sharded("llama", tmp_path / "base")
    updates = adapter(base)
    path = base / "model.safetensors.index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    name, file = next(iter(index["weight_map"].items()))
    index["weight_map"] |= {
        each: f"../{old}" for each, old in index["weight_map"].items() if old == file
    }
    shutil.move(base / file, tmp_path / file)
    path.write_text(json.dumps(index), encoding="utf-8")
    refused(base, updates, r"lists '\.\./model", UnsupportedModelError)
    assert name
