"""One half is loaded alone: only its tensors are read, under whichever names they are stored."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers.utils import logging as transformers_logging

from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import Parts, build_half, half_bytes, load_half
from hsplit_flower.splitting.loading import belongs_to
from tests.families import FAMILIES, checkpoint, fields
from tests.reference.unsplit import base_model
from tests.rounds import architecture
from tests.splitting.checkpoints import CLIENT, WORKER, parameters_of, rewrite, sharded, single


@pytest.mark.parametrize("layout", [sharded, single])
@pytest.mark.parametrize("parts", [CLIENT, WORKER, Parts.of_client(2, keeps_labels=True)])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_half_has_its_own_tensors_and_no_others(
    name: str, parts: Parts, layout: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    half = load_half(str(layout(name, tmp_path)), parts)
    whole = dict(base_model(name).named_parameters())
    found = architecture(name)
    for key, parameter in parameters_of(half).items():
        assert torch.equal(parameter, whole[key]), key
        assert not parameter.requires_grad
        assert parameter.device.type == "cpu"
    held = {
        int(key.removeprefix(f"{found.blocks}.").split(".")[0])
        for key in parameters_of(half)
        if key.startswith(found.blocks)
    }
    assert held == set(range(parts.span.start, parts.span.stop))
    has_embedding = f"{found.embedding}.weight" in parameters_of(half)
    assert has_embedding == (parts.embeddings or (found.is_tied and parts.head))
    assert not half.model.training


@pytest.mark.parametrize("quantised", ["", "nf4", "int8"])
@pytest.mark.parametrize("parts", [CLIENT, WORKER, Parts.of_client(2, keeps_labels=True)])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_what_a_half_takes_is_known_before_it_is_loaded(
    name: str, parts: Parts, quantised: str
) -> None:
    source = str(checkpoint(name))
    known = half_bytes(source, parts, quantised=quantised)
    model = load_half(source, parts, quantised=quantised).model
    assert known == sum(each.nbytes for each in (*model.parameters(), *model.buffers()))


@pytest.mark.parametrize("parts", [CLIENT, WORKER])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_shards_of_the_other_half_are_not_needed(name: str, parts: Parts, tmp_path: Path) -> None:
    folder = sharded(name, tmp_path)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    keys = set(parameters_of(load_half(str(folder), parts)))
    needed = {file for tensor, file in index.items() if tensor in keys}
    unneeded = set(index.values()) - needed
    assert unneeded
    for file in unneeded:
        (folder / file).unlink()
    again = parameters_of(load_half(str(folder), parts))
    assert again.keys() == keys
    next(iter(folder / file for file in needed)).unlink()
    with pytest.raises(UnsupportedModelError, match=r"has no model-000.*weights are"):
        load_half(str(folder), parts)


def test_only_the_halfs_tensors_are_read_of_a_single_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spied on at the open file, which holds all of them."""
    from hsplit_flower.splitting import checkpoint as room

    read = []

    class Spy:
        def __init__(self, *args: str, **kwargs: str) -> None:
            self._file = safe_open(*args, **kwargs)

        def __enter__(self) -> "Spy":
            self._file.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self._file.__exit__(*error)

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def get_tensor(self, key: str) -> Tensor:
            read.append(key)
            return self._file.get_tensor(key)

    monkeypatch.setattr(room, "safe_open", Spy)
    half = load_half(str(single("llama", tmp_path)), WORKER)
    assert sorted(read) == sorted(parameters_of(half))


@pytest.mark.parametrize("kept", ["embedding", "head"])
@pytest.mark.parametrize("parts", [CLIENT, WORKER])
def test_a_tied_pair_may_be_stored_under_either_name(
    parts: Parts, kept: str, tmp_path: Path
) -> None:
    folder = single("qwen3", tmp_path)
    names = {"embedding": "model.embed_tokens.weight", "head": "lm_head.weight"}

    def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        table = tensors.pop(names["embedding"])
        return tensors | {names[kept]: table}

    rewrite(folder, rename)
    whole = dict(base_model("qwen3").named_parameters())
    if parts.head or kept == "embedding":
        half = load_half(str(folder), parts)
        table = half.model.get_submodule("lm_head" if parts.head else "model.embed_tokens").weight
        assert torch.equal(table, whole[names["embedding"]])
    else:
        with pytest.raises(UnsupportedModelError, match="lacks 1 tensors"):
            load_half(str(folder), parts)


def test_the_tied_pair_is_one_tensor_where_both_are_held() -> None:
    half = load_half(str(checkpoint("gpt2")), Parts.of_client(1, keeps_labels=True))
    embedding, head = half.model.get_input_embeddings(), half.model.get_output_embeddings()
    assert head.weight is embedding.weight


@pytest.mark.parametrize("parts", [CLIENT, WORKER])
def test_names_without_the_base_models_prefix(parts: Parts, tmp_path: Path) -> None:
    """As in GPT-2's files on the hub: ``h.0.…``, and no head."""
    folder = single("gpt2", tmp_path)
    rewrite(folder, lambda old: {k.removeprefix("transformer."): v for k, v in old.items()})
    got, wanted = (parameters_of(load_half(str(f), parts)) for f in (folder, checkpoint("gpt2")))
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_a_checkpoint_is_turned_into_the_wanted_type(
    stored: torch.dtype, wanted: torch.dtype, tmp_path: Path
) -> None:
    folder = single("llama", tmp_path)
    rewrite(folder, lambda old: {key: tensor.to(stored) for key, tensor in old.items()})
    half = load_half(str(folder), WORKER, dtype=wanted)
    whole = dict(base_model("llama").named_parameters())
    assert half.dtype == wanted
    for key, parameter in parameters_of(half).items():
        assert parameter.dtype == wanted
        assert torch.equal(parameter, whole[key].to(stored).to(wanted))


def test_the_config_of_a_wider_checkpoint_says_nothing_about_the_type(tmp_path: Path) -> None:
    folder = single("llama", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    assert load_half(str(folder), WORKER).dtype == torch.float32


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_is_the_one_that_was_asked_for(attention: str) -> None:
    half = load_half(str(checkpoint("llama")), CLIENT, attention=attention)
    assert half.model.config._attn_implementation == attention


def test_loading_is_silent_and_leaves_transformers_as_it_was(
    capfd: pytest.CaptureFixture[str],
) -> None:
    transformers_logging.enable_progress_bar()
    transformers_logging.set_verbosity_warning()
    try:
        load_half(str(checkpoint("llama")), CLIENT)
        assert transformers_logging.is_progress_bar_enabled()
        assert transformers_logging.get_verbosity() == transformers_logging.WARNING
    finally:
        transformers_logging.disable_progress_bar()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("tensor", "is_absent"),
    [
        ("model.layers.1.mlp.up_proj.weight", True),
        ("layers.1.mlp.up_proj.weight", True),
        ("model.layers.10.mlp.up_proj.weight", False),
        ("model.layers.11.mlp.up_proj.weight", False),
        ("model.layers.0.mlp.up_proj.weight", False),
        ("model.norm.weight", True),
        ("norm.weight", True),
        ("model.layers.0.norm.weight", False),
        ("lm_head.weight", True),
        ("lm_head_of_another.weight", False),
    ],
)
def test_which_tensors_belong_to_absent_modules(tensor: str, is_absent: bool) -> None:
    absent = frozenset({"model.layers.1", "model.norm", "lm_head"})
    assert belongs_to(tensor, absent) == is_absent


@pytest.mark.parametrize("parts", [CLIENT, WORKER])
@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_a_half_with_random_weights_runs(name: str, parts: Parts) -> None:
    half = build_half(FAMILIES[name].config(), parts, dtype=torch.bfloat16)
    loaded = load_half(str(checkpoint(name)), parts)
    shapes = {key: parameter.shape for key, parameter in parameters_of(half).items()}
    assert shapes == {key: parameter.shape for key, parameter in parameters_of(loaded).items()}
    assert half.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in half.model.parameters())
    ids = fields()["input_ids"]
    if parts.embeddings:
        out = half.embed(ids, None)
    else:
        out = half.logits(torch.randn(3, 9, 16, dtype=torch.bfloat16), None, start=2)
    assert out.isfinite().all()
