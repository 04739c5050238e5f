"""Bases that are quantised while they are loaded, or in their files, and those that are refused."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from torch import nn

from hsplit_flower.errors import AdapterError, ConfigError, UnsupportedModelError
from hsplit_flower.importance import probing
from hsplit_flower.importance.probe import gradient_weight_product
from hsplit_flower.splitting import Checkpoint, Half, Parts, build_half, load_half
from hsplit_flower.splitting.linear import (
    add_product_to_weight_,
    add_to_weight_,
    linear_at,
    matrix_of,
    shape_of,
)
from hsplit_flower.splitting.quantised_linear import QuantisedLinear
from tests.families import FAMILIES, NUM_BLOCKS, checkpoint, fields
from tests.reference.quantised import OPTIONS, dequantised, quantised_model, stored_folder
from tests.splitting.checkpoints import single
from tests.tolerances import distance

CLIENT = Parts.of_client(2, keeps_labels=False)
WORKER = Parts.of_worker(2, NUM_BLOCKS)
WEIGHT = {"llama": "model.layers.1.mlp.up_proj", "gpt2": "transformer.h.1.mlp.c_fc"}


def loaded(name: str, kind: str, parts: Parts = CLIENT, **settings: Any) -> Half:
    return load_half(
        str(checkpoint(name)),
        parts,
        attention=FAMILIES[name].attention,
        quantised=kind,
        **settings,
    )


def told(folder: Path, **quantisation: Any) -> str:
    """The folder, whose configuration says that its weights are quantised so."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "quantization_config": quantisation}), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_both_halves_are_those_of_the_whole_quantised_model(name: str, kind: str) -> None:
    """Head, norms and embeddings are as they were, whichever half is loaded."""
    whole = quantised_model(name, kind).train()
    client, worker = loaded(name, kind), loaded(name, kind, WORKER)
    batch = fields("right")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        wanted = whole(input_ids=ids, attention_mask=mask).logits
        got = worker.logits(client.embed(ids, mask), mask, start=2)
    assert distance(got, wanted) < 1e-6
    for half in (client, worker):
        held = {weight.name for weight in half.architecture.weights_in(half.parts.span)}
        found = {n for n, m in half.model.named_modules() if isinstance(m, QuantisedLinear)}
        assert found == held
        assert half.quantised == kind
        assert (half.dtype, half.numbers) == (torch.float32, f"{kind} in float32")


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_what_is_quantised_already_is_taken_as_it_is(kind: str, tmp_path: Path) -> None:
    folder = stored_folder("gpt2", kind, str(tmp_path))
    asked, stored = loaded("gpt2", kind), load_half(folder, CLIENT)
    assert stored.quantised == kind
    for of_half in (nn.Module.named_parameters, nn.Module.named_buffers):
        wanted, got = dict(of_half(asked.model)), dict(of_half(stored.model))
        assert got.keys() == wanted.keys()
        assert all(torch.equal(got[key], one) for key, one in wanted.items())
    assert load_half(folder, CLIENT, quantised=kind).quantised == kind
    other = {"nf4": "int8", "int8": "nf4"}[kind]
    with pytest.raises(UnsupportedModelError, match=f"quantised to {kind} already, and {other}"):
        load_half(folder, CLIENT, quantised=other)


@pytest.mark.parametrize(
    "method", ["gptq", "awq", "fp8", "mxfp4", "compressed-tensors", "a method of next year"]
)
def test_what_others_have_quantised_is_refused_by_name(method: str, tmp_path: Path) -> None:
    folder = told(single("llama", tmp_path), quant_method=method, bits=4)
    for refused in (lambda: Checkpoint(source=folder).config(), lambda: load_half(folder, CLIENT)):
        with pytest.raises(UnsupportedModelError, match=f"is quantised by {method}, which cannot"):
            refused()


def test_a_checkpoint_that_only_says_so_is_refused(tmp_path: Path) -> None:
    folder = told(single("llama", tmp_path), quant_method="bitsandbytes", **{"load_in_4bit": True})
    with pytest.raises(UnsupportedModelError, match="is not: a complete checkpoint is wanted"):
        load_half(folder, CLIENT)


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name)
    )
    with pytest.raises(ConfigError, match=r"pip install 'hsplit-flower\[quantised\]'"):
        loaded("llama", "nf4")


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_nothing_is_merged_into_a_quantised_weight(name: str, kind: str) -> None:
    layer = linear_at(loaded(name, kind).model, WEIGHT[name])
    rows, columns = shape_of(layer)
    before = matrix_of(layer)
    assert before.shape == (rows, columns)
    with pytest.raises(AdapterError, match=f"{kind}.*nothing is ever merged"):
        add_to_weight_(layer, torch.ones(rows, columns))
    with pytest.raises(AdapterError, match="nothing is ever merged"):
        add_product_to_weight_(layer, torch.ones(rows, 1), torch.ones(1, columns))
    assert torch.equal(matrix_of(layer), before)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_the_probe_scores_dequantised_weights(kind: str) -> None:
    half, name = loaded("llama", kind), WEIGHT["llama"]
    layer = linear_at(half.model, name)
    seen: dict[str, torch.Tensor] = {}

    def watch(module: nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        seen["x"] = args[0].detach()
        output.register_hook(lambda gradient: seen.update(delta=gradient))

    batch = fields()
    with probing(half.model, [name]) as scores:
        handle = layer.register_forward_hook(watch)
        half.embed(batch["input_ids"], batch["attention_mask"]).square().sum().backward()
        handle.remove()
    wanted = gradient_weight_product(matrix_of(layer), seen["x"], seen["delta"])
    assert scores[name] == pytest.approx(wanted, rel=1e-6)
    assert wanted > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_it_computes_in_is_another_matter(dtype: torch.dtype) -> None:
    half = loaded("llama", "nf4", dtype=dtype)
    batch = fields()
    hidden = half.embed(batch["input_ids"], batch["attention_mask"])
    assert hidden.dtype == half.dtype == dtype
    plain = load_half(str(checkpoint("llama")), CLIENT)
    wanted = plain.embed(batch["input_ids"], batch["attention_mask"])
    assert 0.01 < distance(hidden, wanted) < 0.3


@pytest.mark.parametrize("kind", [*OPTIONS])
def test_random_weights_lie_as_loaded_ones_do(kind: str) -> None:
    built = build_half(FAMILIES["gpt2"].config(), WORKER, quantised=kind)
    real = loaded("gpt2", kind, WORKER)
    for of_half in (nn.Module.named_parameters, nn.Module.named_buffers):
        wanted = {k: (t.shape, t.dtype) for k, t in of_half(real.model)}
        assert {k: (t.shape, t.dtype) for k, t in of_half(built.model)} == wanted
    hidden = built.hidden(torch.randn(2, 5, 16), None, start=2)
    assert hidden.isfinite().all()


@pytest.mark.parametrize("columns", [16, 20, 32, 48, 64, 96, 128])
@pytest.mark.parametrize("is_double", [True, False])
def test_every_width_is_dequantised_by_the_scales_of_its_blocks(
    columns: int, is_double: bool
) -> None:
    whole = nn.Linear(columns, 24, bias=False)
    packed, state = quantize_4bit(
        whole.weight.data, quant_type="nf4", compress_statistics=is_double
    )
    stored = {"weight": packed, "scales": state.absmax}
    if is_double:
        of_scales = state.state2
        stored |= {
            "scale_scales": of_scales.absmax,
            "scale_codes": of_scales.code,
            "scale_offset": state.offset,
        }
    layer = QuantisedLinear(
        24, columns, kind="nf4", stored=stored, bias=None, computes_in=torch.float32
    )
    assert distance(layer.matrix(), dequantised(packed, state)) < 1e-6
