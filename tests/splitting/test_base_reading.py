"""Which checkpoints are one base and which are not, from a few numbers of each tensor."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, LlamaConfig

from hsplit_flower.splitting import Checkpoint, Parts, build_empty, load_half
from hsplit_flower.splitting.base_digest import BaseDigest, difference
from hsplit_flower.splitting.base_reading import (
    NUM_PIECES,
    PIECE_NUMBERS,
    digest_of,
    digest_of_half,
    sampled,
)
from hsplit_flower.splitting.model_name import INDEX_FILE, SINGLE_FILE
from tests.families import FAMILIES, NUM_BLOCKS, checkpoint, random_model, save
from tests.reference.quantised import stored_folder
from tests.splitting.checkpoints import rewrite, sharded, single
from tests.splitting.test_towers import config_of

NAMES = ("llama", "gpt2", "qwen3")
Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def digest(folder: Path | str, dtype: torch.dtype = torch.float32, **options: Any) -> BaseDigest:
    return digest_of(Checkpoint(source=str(folder)), dtype, **options)


def changed(name: str, folder: Path, change: Change) -> Path:
    copy = single(name, folder)
    rewrite(copy, change)
    return copy


@pytest.mark.parametrize("name", NAMES)
def test_one_file_shards_and_a_stale_index_are_one_base(name: str, tmp_path: Path) -> None:
    wanted = digest(checkpoint(name))
    assert len(wanted.tensors) > 20
    assert all(one.digest for one in wanted.tensors.values())
    shards = sharded(name, tmp_path / "shards")
    assert digest(shards) == wanted
    # Both layouts in one folder: the single file is what is loaded.
    (shards / SINGLE_FILE).write_bytes((checkpoint(name) / SINGLE_FILE).read_bytes())
    for shard in shards.glob("model-*.safetensors"):
        shard.write_bytes(b"stale")
    assert digest(shards) == wanted


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gpt2", lambda t: {key.removeprefix("transformer."): one for key, one in t.items()}),
        ("gpt2", lambda t: {**t, "h.0.attn.bias": torch.ones(4)}),
        ("llama", lambda t: {**t, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}),
        ("qwen3", lambda t: {**t, "lm_head.weight": t["model.embed_tokens.weight"].clone()}),
        ("gpt2", lambda t: {**t, "lm_head.weight": t["transformer.wte.weight"].clone()}),
    ],
    ids=["without prefix", "masks", "frequencies", "tied head", "tied head of gpt2"],
)
def test_names_are_those_that_the_loader_gives_them(
    name: str, change: Change, tmp_path: Path
) -> None:
    assert digest(changed(name, tmp_path, change)) == digest(checkpoint(name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_values_in_a_wider_type_are_the_same_base(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    model = random_model(FAMILIES["llama"].config())
    narrow = save(model.to(torch.bfloat16), tmp_path / "narrow")
    wide = save(model.to(torch.float32), tmp_path / "wide")
    assert difference(digest(wide, dtype), digest(narrow, dtype)) == ""
    told = difference(digest(narrow), digest(checkpoint("llama")))
    assert told.endswith("stored in BF16 where F32 is wanted")


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_of_which_a_number_in_eight_is_another_one_is_found(
    name: str, tmp_path: Path
) -> None:
    wanted = digest(checkpoint(name))
    copy = single(name, tmp_path)
    plain = load_file(copy / SINGLE_FILE)
    for key, tensor in plain.items():
        other = tensor.clone()
        other.view(-1)[::8] += 0.5
        save_file({**plain, key: other}, copy / SINGLE_FILE, metadata={"format": "pt"})
        told = difference(digest(copy), wanted)
        assert told == (
            f"the values of 1 of {len(wanted.tensors)} tensors are other ones, those of {key!r}"
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda t: {**t, "model.norm.weight": torch.ones(17)},
            "'model.norm.weight' is of shape [17], and [16] is wanted",
        ),
        (
            lambda t: {k: v for k, v in t.items() if "layers.2" not in k},
            "it lacks 'model.layers.2.input_layernorm.weight', "
            "'model.layers.2.mlp.down_proj.weight', 'model.layers.2.mlp.gate_proj.weight' and "
            "6 more",
        ),
    ],
)
def test_what_is_other_is_named(change: Change, told: str, tmp_path: Path) -> None:
    got, wanted = digest(changed("llama", tmp_path, change)), digest(checkpoint("llama"))
    assert difference(got, wanted) == told


def test_another_model_is_told_by_its_tensors() -> None:
    told = difference(digest(checkpoint("gpt2")), digest(checkpoint("llama")))
    assert told.startswith("it has 'transformer.h.0.attn.c_attn.bias', ")
    assert told.endswith("which the other has not")


def test_of_files_that_are_not_here_nothing_is_known(tmp_path: Path) -> None:
    """Whoever loads a half from the hub has the shards of that half."""
    shards, wanted = sharded("llama", tmp_path), digest(checkpoint("llama"))
    index = json.loads((shards / INDEX_FILE).read_text())["weight_map"]
    (shards / index["model.norm.weight"]).unlink()
    got = digest(shards)
    assert got.tensors.keys() == wanted.tensors.keys()
    assert not got.tensors["model.norm.weight"].digest
    assert difference(got, wanted) == difference(wanted, got) == ""
    assert wanted.covers(got) and not got.covers(wanted)
    assert got.joined(wanted) == wanted
    for file in shards.glob("model-*.safetensors"):
        file.unlink()
    assert difference(digest(shards), wanted) == ""


def test_without_any_file_of_weights_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((checkpoint("llama") / "config.json").read_bytes())
    assert digest(tmp_path) == BaseDigest()
    (tmp_path / SINGLE_FILE).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid")
    assert digest(tmp_path) == BaseDigest()


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    copy = single("llama", tmp_path)
    before = digest(copy)
    rewrite(copy, lambda tensors: {key: one + 1.0 for key, one in tensors.items()})
    assert difference(digest(copy), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parts", [Parts.of_worker(1, NUM_BLOCKS), Parts.whole(NUM_BLOCKS)])
@pytest.mark.parametrize("name", NAMES)
def test_a_half_from_memory_is_compared_in_what_it_holds(
    name: str, parts: Parts, dtype: torch.dtype
) -> None:
    half = load_half(str(checkpoint(name)), parts, dtype=dtype)
    files = digest(checkpoint(name), dtype)
    assert digest_of_half(half) == files
    half.checkpoint = None
    own = digest_of_half(half)
    assert len(own.tensors) > 10
    assert own.tensors.keys() <= files.tensors.keys()
    assert difference(own, files) == difference(files, own) == ""
    with torch.no_grad():
        next(half.block(2).parameters()).add_(1.0)
    assert "the values of 1 of" in difference(digest_of_half(half), files)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_base_that_is_quantised_in_its_files_is_another_one(kind: str, tmp_path: Path) -> None:
    """Whatever the base that it was made of is quantised to while it is loaded."""
    stored = digest(stored_folder("llama", kind, str(tmp_path)))
    plain = digest(checkpoint("llama"), is_quantised=True)
    assert difference(stored, plain) == (
        f"it is quantised to {kind} in its files, and not quantised is wanted"
    )
    assert any("layers.0.self_attn.q_proj.weight" in name for name in stored.tensors)
    scales = [name for name in stored.tensors if name.endswith(("absmax", "SCB"))]
    assert len(scales) == 7 * NUM_BLOCKS if kind == "int8" else len(scales) >= 7 * NUM_BLOCKS
    half = load_half(str(checkpoint("llama")), Parts.whole(NUM_BLOCKS), quantised=kind)
    assert digest_of_half(half) == plain
    half.checkpoint = None
    own = digest_of_half(half)
    assert own.tensors and difference(own, plain) == ""


@pytest.mark.filterwarnings("ignore")
def test_what_no_half_holds_is_not_compared(tmp_path: Path) -> None:
    """Towers of models for images and text."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config_of("gemma3"))
    one = digest(save(model, tmp_path / "one"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "vision" in name or "projector" in name:
                parameter.add_(1.0)
    assert digest(save(model, tmp_path / "two")) == one
    assert not any("vision" in name for name in one.tensors)


@pytest.mark.filterwarnings("ignore")
def test_experts_that_lie_apart_are_each_looked_at(tmp_path: Path) -> None:
    family = replace(FAMILIES["llama"], model_type="mixtral", settings={"num_local_experts": 4})
    model = random_model(family.config())
    before = digest(save(model, tmp_path / "one"))
    assert sum("experts.3.w1" in name for name in before.tensors) == NUM_BLOCKS
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "gate_up_proj" in name)[3].add_(1.0)
    told = difference(digest(save(model, tmp_path / "two")), before)
    assert "the values of 2 of" in told and "experts.3.w" in told
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    assert digest(save(again, tmp_path / "three", max_shard_size="3KB")) == before


@given(st.integers(min_value=0, max_value=10**10))
def test_pieces_lie_within_a_tensor_from_its_first_number_to_its_last(count: int) -> None:
    spans = sampled(count)
    looked_at = sum(stop - start for start, stop in spans)
    assert looked_at == min(count, NUM_PIECES * PIECE_NUMBERS)
    assert all(0 <= start < stop <= count for start, stop in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    if count:
        assert spans[0][0] == 0 and spans[-1][1] == count


def test_of_seven_billion_numbers_little_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LLaMA-2-7B's shapes in one file, which is written as a hole."""
    config = LlamaConfig(num_hidden_layers=32, dtype="bfloat16")
    config.save_pretrained(tmp_path)
    stop, header = 0, {}
    for name, tensor in build_empty(config).state_dict().items():
        start, stop = stop, stop + tensor.nbytes
        header[name] = {
            "dtype": "BF16",
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
    text = json.dumps(header).encode()
    with (tmp_path / SINGLE_FILE).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + stop)
    assert stop > 13e9
    pieces: list[int] = []
    real = os.pread

    def watched(file: int, count: int, offset: int) -> bytes:
        pieces.append(count)
        return real(file, count, offset)

    monkeypatch.setattr(os, "pread", watched)
    assert len(digest(tmp_path, torch.bfloat16).tensors) == 291
    assert len(pieces) == 4 * 291
    assert sum(pieces) < 1.2e6
