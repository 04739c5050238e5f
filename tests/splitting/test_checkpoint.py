"""Where a model's files are, and which of them are never read."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import Checkpoint, Half, load_half
from hsplit_flower.splitting.companions import copy_companions
from hsplit_flower.splitting.model_name import INDEX_FILE, SINGLE_FILE
from tests.families import checkpoint
from tests.splitting.checkpoints import (
    CLIENT,
    WORKER,
    in_hubs_cache,
    parameters_of,
    rewrite,
    sharded,
    single,
)


def _copy(folder: Path, **settings: object) -> Path:
    shutil.copytree(checkpoint("llama"), folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


def test_the_built_in_base_is_read_by_its_name() -> None:
    built_in = Checkpoint(source="llama-tiny")
    assert built_in.is_local
    assert built_in.config().model_type == "llama"
    assert built_in.files() == {"model.safetensors": None}


def test_tensors_are_given_unread(tmp_path: Path) -> None:
    wanted = "model.norm.weight"
    checkpoint_here = Checkpoint(source=str(_copy(tmp_path)))
    with checkpoint_here.open(lambda name: name == wanted, torch.float32) as tensors:
        assert list(tensors) == [wanted]
        assert tensors[wanted][:].shape == (16,)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
@pytest.mark.parametrize("shape", [(), (0, 4), (1,), (7, 5), (3, 4, 5)])
def test_what_is_widened_piece_by_piece_is_what_was_stored(
    stored: torch.dtype, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of two rows of the largest tensor here."""
    monkeypatch.setattr("hsplit_flower.splitting.checkpoint.PIECE_BYTES", 40)
    tensor = (100 * torch.randn(shape)).to(stored)
    save_file({"x": tensor}, tmp_path / "model.safetensors")
    with Checkpoint(source=str(tmp_path)).open(lambda name: True, torch.float32) as tensors:
        got = tensors["x"][...]
        assert got.shape == tensor.shape
        assert torch.equal(got.to(torch.float64), tensor.to(torch.float64))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"no": "type"}',
        '{"model_type": 3}',
        '{"model_type": "unheard-of"}',
        '{"model_type": "llama", "hidden_size": "big"}',
        '{"model_type": "llama", "hidden_size": 16, "num_attention_heads": 3}',
    ],
)
def test_a_configuration_that_says_nothing_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnsupportedModelError, match=r"no usable model configuration at .*wanted"):
        Checkpoint(source=str(tmp_path)).config()


def test_a_folder_without_weights_that_can_be_read_is_found_out_before_any_is_loaded(
    tmp_path: Path,
) -> None:
    """Who has the shards of its own half alone has some; what is cut short is none."""
    whole = single("llama", tmp_path)
    Checkpoint(source=str(whole)).check_some_weights()
    weights = whole / SINGLE_FILE
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UnsupportedModelError, match="cannot be read as safetensors"):
        Checkpoint(source=str(whole)).check_some_weights()
    weights.unlink()
    with pytest.raises(UnsupportedModelError, match=f"has no {SINGLE_FILE}"):
        Checkpoint(source=str(whole)).check_some_weights()
    parts = Checkpoint(source=str(sharded("llama", tmp_path / "parts")))
    first, *others = sorted({str(name) for name in parts.files().values()})
    (tmp_path / "parts" / first).unlink()
    parts.check_some_weights()
    for name in others:
        (tmp_path / "parts" / name).unlink()
    with pytest.raises(UnsupportedModelError, match=f"has no {first}"):
        parts.check_some_weights()
    Checkpoint(source="someone/a-model").check_some_weights()


def test_a_hub_model_that_is_not_cached_cannot_be_opened_offline() -> None:
    with (
        pytest.raises(UnsupportedModelError, match="not in the local cache"),
        Checkpoint(source="someone/a-model").open(lambda name: True, torch.float32),
    ):
        pass


@pytest.mark.parametrize("absent", [(), (SINGLE_FILE,), (INDEX_FILE,)])
@pytest.mark.parametrize("is_sharded", [True, False])
def test_what_is_in_the_hubs_cache_is_loaded_offline(
    is_sharded: bool, absent: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two layouts it has, and whoever asked for the other."""
    folder = sharded("llama", tmp_path / "f") if is_sharded else checkpoint("llama")
    name = in_hubs_cache(tmp_path / "home", monkeypatch, folder, *absent)
    assert _equal(load_half(name, CLIENT), load_half(str(folder), CLIENT))


def test_a_shard_that_is_not_in_the_hubs_cache_is_named_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sharded("llama", tmp_path / "f")
    shard = Checkpoint(source=str(folder)).files()["model.embed_tokens.weight"]
    name = in_hubs_cache(tmp_path / "home", monkeypatch, folder, leave=str(shard))
    load_half(name, WORKER)
    with pytest.raises(
        UnsupportedModelError, match=f"{shard} of {name!r} cannot be had.*OFFLINE forbids"
    ):
        load_half(name, CLIENT)


def _equal(one: Half, other: Half) -> bool:
    ours, theirs = parameters_of(one), parameters_of(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


@pytest.mark.parametrize("names_its_file", [False, True])
@pytest.mark.parametrize("has_shards", [False, True])
def test_what_transformers_would_load_is_loaded(
    has_shards: bool, names_its_file: bool, tmp_path: Path
) -> None:
    """Where an index, its shards or another file lie beside the weights."""
    folder = sharded("llama", tmp_path)
    for shard in set(Checkpoint(source=str(folder)).files().values()):
        if not has_shards:
            (folder / str(shard)).unlink()
    shutil.copyfile(checkpoint("llama") / SINGLE_FILE, folder / SINGLE_FILE)
    rewrite(folder, lambda tensors: {name: 2 * tensor for name, tensor in tensors.items()})
    if names_its_file:
        (folder / SINGLE_FILE).rename(folder / "weights.safetensors")
        shutil.copyfile(checkpoint("llama") / SINGLE_FILE, folder / SINGLE_FILE)
        config = json.loads((folder / "config.json").read_text())
        named = config | {"transformers_weights": "weights.safetensors"}
        (folder / "config.json").write_text(json.dumps(named))
    theirs = dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
    ours = parameters_of(load_half(str(folder), CLIENT))
    assert ours
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    merge_folder = tmp_path / "written"
    merge_folder.mkdir()
    copy_companions(Checkpoint(source=str(folder)), merge_folder, None)
    assert "transformers_weights" not in json.loads((merge_folder / "config.json").read_text())


def _remote_code(folder: Path, trace: Path, **settings: object) -> Path:
    """A checkpoint that brings code; the code leaves a trace if it is run."""
    (folder / "code.py").write_text(
        f"open({str(trace)!r}, 'w').close()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class Theirs(LlamaConfig): pass\n"
        "class TheirModel(LlamaForCausalLM): pass\n"
    )
    auto_map = {"AutoConfig": "code.Theirs", "AutoModelForCausalLM": "code.TheirModel"}
    return _copy(folder, auto_map=auto_map, **settings)


def test_code_that_comes_with_a_model_of_an_unknown_type_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    folder = _remote_code(tmp_path, trace, model_type="theirs")
    with pytest.raises(UnsupportedModelError, match="no usable model configuration"):
        Checkpoint(source=str(folder)).config()
    assert not trace.exists()


def test_code_that_comes_with_a_model_of_a_known_type_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    folder = _remote_code(tmp_path, trace)
    assert type(Checkpoint(source=str(folder)).config()).__module__.startswith("transformers.")
    assert not trace.exists()
