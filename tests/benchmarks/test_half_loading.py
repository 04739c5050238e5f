"""The half-loading benchmark, on checkpoints that are written in a moment."""

import functools
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.half_loading import load_and_time, loads, warm_up, write_checkpoint
from benchmarks.harness import peak_memory_of
from hsplit_flower.splitting import Parts, load_half
from hsplit_flower.splitting import checkpoint as checkpoint_module

NUM_BLOCKS = 9
NUM_SHARDS = 1 + 3
VOCABULARY = 64


def config(*, is_tied: bool, width: int = 64) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=NUM_BLOCKS,
        num_attention_heads=4,
        vocab_size=VOCABULARY,
        tie_word_embeddings=is_tied,
    )


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_written_is_a_checkpoint_in_shards(
    tmp_path: Path, dtype: torch.dtype, is_tied: bool
) -> None:
    folder = tmp_path / "model"
    write_checkpoint(folder, config(is_tied=is_tied), dtype, seed=3)
    assert len(list(folder.glob("*.safetensors"))) == NUM_SHARDS
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype is dtype
    assert model.model.layers[-1].mlp.up_proj.weight.float().std().item() > 0.01


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
@pytest.mark.one_in(2)
def test_halves_hold_the_numbers_of_the_whole_whatever_they_are_turned_into(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stored: torch.dtype,
    wanted: torch.dtype,
) -> None:
    # Small enough that every matrix is widened in several pieces, the last one shorter.
    monkeypatch.setattr(checkpoint_module, "PIECE_BYTES", 7 * 64 * 4)
    folder = tmp_path / "model"
    write_checkpoint(folder, config(is_tied=True), stored, seed=3)
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=wanted).state_dict()
    halves = [Parts.of_client(2, keeps_labels=True), Parts.of_worker(2, NUM_BLOCKS)]
    seen = set()
    for parts in halves:
        for name, tensor in load_half(str(folder), parts, dtype=wanted).model.state_dict().items():
            assert tensor.dtype is wanted
            assert torch.equal(tensor, whole[name]), name
            seen.add(name)
    assert seen == set(whole)


def test_every_way_of_loading_is_measured_by_what_it_holds(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shape = config(is_tied=False)
    write_checkpoint(folder, shape, torch.float32, seed=3)
    parameters = AutoModelForCausalLM.from_pretrained(folder).num_parameters()
    table = VOCABULARY * shape.hidden_size
    block = (parameters - 2 * table - shape.hidden_size) // NUM_BLOCKS
    client = load_and_time(str(folder), Parts.of_client(2, keeps_labels=False))
    worker = load_and_time(str(folder), Parts.of_worker(2, NUM_BLOCKS))
    whole = load_and_time(str(folder), None)
    assert client["bytes"] == 4 * (2 * block + table)
    assert whole["bytes"] == 4 * parameters == client["bytes"] + worker["bytes"]
    assert min(part["seconds"] for part in (client, worker, whole)) > 0


def test_halves_have_a_target_and_the_whole_has_none() -> None:
    ways = loads(quick=True)
    assert [way.target is not None for way in ways] == [way.parts is not None for way in ways]
    assert len({way.name for way in ways}) == len(ways)


@pytest.mark.long
def test_a_half_raises_the_peak_by_its_own_bytes(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "tiny", config(is_tied=False), torch.float32, seed=3)
    folder = tmp_path / "model"
    write_checkpoint(folder, config(is_tied=False, width=640), torch.float32, seed=3)
    use = peak_memory_of(
        load_and_time,
        str(folder),
        Parts.of_client(3, keeps_labels=False),
        warm_up=functools.partial(warm_up, str(tmp_path / "tiny")),
    )
    assert use.result["bytes"] > 45e6
    assert 0.95 < use.growth_bytes / use.result["bytes"] < 1.15
