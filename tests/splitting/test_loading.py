"""One half is loaded alone: only its tensors are read, and what is wrong with a file is said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils import logging as transformers_logging

from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import Half, Parts, build_half, load_half
from hsplit_flower.splitting.loading import belongs_to
from tests.families import FAMILIES, NUM_BLOCKS, checkpoint, fields, random_model, save
from tests.reference.unsplit import base_model
from tests.rounds import architecture

CLIENT = Parts.of_client(1, keeps_labels=False)
WORKER = Parts.of_worker(2, NUM_BLOCKS)


def _sharded(name: str, folder: Path) -> Path:
    """The family's model in one shard for every two or three tensors."""
    family = FAMILIES[name]
    return save(random_model(family.config(), family.attention), folder, max_shard_size="3KB")


def _single(name: str, folder: Path) -> Path:
    """A copy of the family's model that a test may change."""
    return Path(shutil.copytree(checkpoint(name), folder / name))


def _change(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Rewrite the tensors of a single-file checkpoint."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def _parameters(half: Half) -> dict[str, Tensor]:
    return dict(half.model.named_parameters())


@pytest.mark.parametrize("layout", [_sharded, _single])
@pytest.mark.parametrize("parts", [CLIENT, WORKER, Parts.of_client(2, keeps_labels=True)])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_half_has_its_own_tensors_and_no_others(
    name: str, parts: Parts, layout: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    half = load_half(str(layout(name, tmp_path)), parts)
    whole = dict(base_model(name).named_parameters())
    found = architecture(name)
    for key, parameter in _parameters(half).items():
        assert torch.equal(parameter, whole[key]), key
        assert not parameter.requires_grad
        assert parameter.device.type == "cpu"
    held = {
        int(key.removeprefix(f"{found.blocks}.").split(".")[0])
        for key in _parameters(half)
        if key.startswith(found.blocks)
    }
    assert held == set(range(parts.span.start, parts.span.stop))
    has_embedding = f"{found.embedding}.weight" in _parameters(half)
    assert has_embedding == (parts.embeddings or (found.is_tied and parts.head))
    assert not half.model.training


@pytest.mark.parametrize("parts", [CLIENT, WORKER])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_shards_of_the_other_half_are_not_needed(name: str, parts: Parts, tmp_path: Path) -> None:
    folder = _sharded(name, tmp_path)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    keys = set(_parameters(load_half(str(folder), parts)))
    needed = {file for tensor, file in index.items() if tensor in keys}
    unneeded = set(index.values()) - needed
    assert unneeded
    for file in unneeded:
        (folder / file).unlink()
    again = _parameters(load_half(str(folder), parts))
    assert again.keys() == keys
    next(iter(folder / file for file in needed)).unlink()
    with pytest.raises(UnsupportedModelError, match=r"has no model-000.*pickle files"):
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
    half = load_half(str(_single("llama", tmp_path)), WORKER)
    assert sorted(read) == sorted(_parameters(half))


@pytest.mark.parametrize("kept", ["embedding", "head"])
@pytest.mark.parametrize("parts", [CLIENT, WORKER])
def test_a_tied_pair_may_be_stored_under_either_name(
    parts: Parts, kept: str, tmp_path: Path
) -> None:
    folder = _single("qwen3", tmp_path)
    names = {"embedding": "model.embed_tokens.weight", "head": "lm_head.weight"}

    def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        table = tensors.pop(names["embedding"])
        return tensors | {names[kept]: table}

    _change(folder, rename)
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
    folder = _single("gpt2", tmp_path)
    _change(folder, lambda old: {k.removeprefix("transformer."): v for k, v in old.items()})
    got, wanted = (_parameters(load_half(str(f), parts)) for f in (folder, checkpoint("gpt2")))
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_a_checkpoint_is_turned_into_the_wanted_type(
    stored: torch.dtype, wanted: torch.dtype, tmp_path: Path
) -> None:
    folder = _single("llama", tmp_path)
    _change(folder, lambda old: {key: tensor.to(stored) for key, tensor in old.items()})
    half = load_half(str(folder), WORKER, dtype=wanted)
    whole = dict(base_model("llama").named_parameters())
    assert half.dtype == wanted
    for key, parameter in _parameters(half).items():
        assert parameter.dtype == wanted
        assert torch.equal(parameter, whole[key].to(stored).to(wanted))


def test_the_config_of_a_wider_checkpoint_says_nothing_about_the_type(tmp_path: Path) -> None:
    folder = _single("llama", tmp_path)
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


def _without(*endings: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        _change(folder, lambda old: {k: v for k, v in old.items() if not k.endswith(endings)})

    return change


def _pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _truncated(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a safetensors file at all")


def _empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def _bad_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{")


def _index_of_nothing(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"metadata": {}}')


def _widened(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 20}))


def _deepened(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_without("layers.2.mlp.up_proj.weight"), "lacks 1 tensors of this half.*layers.2.mlp.up"),
        (
            _without("norm.weight", "proj.weight"),
            "lacks .* tensors.*complete checkpoint of a llama",
        ),
        (_pickled, "pickle files .* are refused because loading them can run code; convert"),
        (_truncated, "cannot be read as safetensors"),
        (_garbage, "cannot be read as safetensors"),
        (_empty, "cannot be read as safetensors"),
        (_bad_index, "cannot be read as an index of shards"),
        (_index_of_nothing, "cannot be read as an index of shards.*weight_map"),
        (_widened, "other shapes than its config.json says.*mlp"),
        (_deepened, "lacks 18 tensors"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_said(
    break_it: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    folder = _single("llama", tmp_path)
    break_it(folder)
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        load_half(str(folder), Parts.of_worker(2, 5 if break_it is _deepened else NUM_BLOCKS))
    assert str(folder) in str(caught.value)


def test_what_is_wrong_with_the_other_half_does_not_matter(tmp_path: Path) -> None:
    folder = _single("llama", tmp_path)
    _without("embed_tokens.weight", "layers.0.mlp.up_proj.weight")(folder)
    load_half(str(folder), WORKER)
    with pytest.raises(UnsupportedModelError, match="lacks 2 tensors"):
        load_half(str(folder), CLIENT)


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
    shapes = {key: parameter.shape for key, parameter in _parameters(half).items()}
    assert shapes == {key: parameter.shape for key, parameter in _parameters(loaded).items()}
    assert half.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in half.model.parameters())
    ids = fields()["input_ids"]
    if parts.embeddings:
        out = half.embed(ids, None)
    else:
        out = half.logits(torch.randn(3, 9, 16, dtype=torch.bfloat16), None, start=2)
    assert out.isfinite().all()
