"""Halves of a decoder together compute what the whole does, bit for bit, whatever its family."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, PreTrainedModel

from hsplit_flower.errors import SplitError
from hsplit_flower.splitting import Half, Parts, describe, load_half, read_architecture
from hsplit_flower.splitting.half import absent_modules
from hsplit_flower.types import Span
from tests.families import (
    FAMILIES,
    NUM_BLOCKS,
    WINDOW,
    checkpoint,
    fields,
    random_model,
    save,
    shrunk,
)
from tests.reference.unsplit import base_model
from tests.rounds import architecture
from tests.splitting.toys import Toy, ToyConfig
from tests.workers import load_client, load_worker

KINDS = ("unpadded", "right", "left")
OTHERS = [
    "bitnet",
    "bloom",
    "codegen",
    "cohere",
    "cohere2",
    "ctrl",
    "diffllama",
    "exaone4",
    "falcon",
    "gemma",
    "gemma3_text",
    "gpt_neo",
    "gpt_neox",
    "gpt_oss",
    "gptj",
    "granite",
    "mamba",
    "mixtral",
    "mpt",
    "olmo",
    "olmoe",
    "opt",
    "persimmon",
    "phi",
    "qwen3_moe",
    "smollm3",
    "stablelm",
    "starcoder2",
    "xglm",
]


def _equal(got: Tensor, wanted: Tensor) -> bool:
    """Bit for bit; ``-0.0`` is ``0.0``."""
    return bool((got == wanted).all())


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.one_in(2)
def test_every_cut_gives_the_logits_of_the_whole(name: str, kind: str) -> None:
    batch = fields(kind)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    wanted = base_model(name)(input_ids=ids, attention_mask=mask, use_cache=False).logits
    worker = load_worker(name)
    for cut in range(1, NUM_BLOCKS + 1):
        client = load_client(name, cut, keeps_labels=True)
        hidden = client.embed(ids, mask)
        assert _equal(worker.logits(hidden, mask, start=cut), wanted)
        last = worker.hidden(hidden, mask, start=cut)
        assert _equal(client.logits(last, mask, start=NUM_BLOCKS), wanted)


@torch.no_grad()
@pytest.mark.parametrize("model_type", OTHERS)
@pytest.mark.one_in(3)
def test_families_that_nobody_named_are_split(model_type: str, tmp_path: Path) -> None:
    if model_type not in CONFIG_MAPPING:
        pytest.skip(f"this version of transformers has no {model_type}")
    model = random_model(shrunk(model_type))
    batch = fields("right")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    wanted = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    folder = str(save(model, tmp_path))
    found = read_architecture(model.config)
    client = load_half(folder, Parts.of_client(2, keeps_labels=True))
    worker = load_half(folder, Parts.of_worker(1, found.num_blocks))
    hidden = client.embed(ids, mask)
    sent = hidden.clone()
    assert _equal(worker.logits(hidden, mask, start=2), wanted)
    assert torch.equal(hidden, sent), "the hidden state that came over the wire was written to"
    last = worker.hidden(hidden, mask, start=2)
    assert _equal(client.logits(last, mask, start=found.num_blocks), wanted)


def test_the_windows_and_caps_are_in_force() -> None:
    """Else the families above would all be the same model."""
    batch = fields("unpadded")
    assert batch["input_ids"].shape[1] > 2 * WINDOW
    for name, change in [
        ("mistral", {"sliding_window": None}),
        ("qwen2", {"layer_types": ["full_attention"] * 3}),
        ("phi3", {"sliding_window": None}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma2", {"final_logit_softcapping": None}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    ]:
        family = FAMILIES[name]
        config = CONFIG_MAPPING[family.model_type](**(family.sizes | family.settings | change))
        with torch.no_grad():
            other = random_model(config, family.attention)(batch["input_ids"]).logits
            wanted = base_model(name)(batch["input_ids"]).logits
        assert (other - wanted).abs().max() > 1e-3, (name, change)


@torch.no_grad()
def test_no_mask_is_a_mask_of_ones() -> None:
    ids = fields("unpadded")["input_ids"]
    ones = torch.ones_like(ids)
    for name in ("gpt2", "mistral"):
        client, worker = load_client(name, 2), load_worker(name)
        hidden = client.embed(ids, ones)
        assert torch.allclose(client.embed(ids, None), hidden, rtol=1e-5, atol=1e-6)
        with_mask = worker.logits(hidden, ones, start=2)
        assert torch.allclose(worker.logits(hidden, None, start=2), with_mask, rtol=1e-5, atol=1e-5)


def test_gradients_flow_to_the_hidden_state_that_came_in() -> None:
    hidden = torch.randn(2, 5, 16, requires_grad=True)
    load_worker("gpt2").logits(hidden, None, start=3).sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.abs().sum() > 0


@torch.no_grad()
def test_a_half_can_be_run_again_and_from_any_of_its_blocks() -> None:
    worker = load_worker("llama")
    hidden = torch.randn(2, 5, 16)
    first = [worker.logits(hidden, None, start=start) for start in (1, 2, 3)]
    again = [worker.logits(hidden, None, start=start) for start in (1, 2, 3)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    one_on = worker.block(1)
    assert one_on is worker.model.get_submodule("model.layers.1")


def test_an_error_inside_leaves_the_half_usable() -> None:
    worker = load_worker("llama")
    before = [worker.block(index) for index in range(NUM_BLOCKS)]
    with pytest.raises(RuntimeError):
        worker.logits(torch.randn(2, 5, 3), None, start=1)
    assert [worker.block(index) for index in range(NUM_BLOCKS)] == before
    assert worker.logits(torch.randn(2, 5, 16), None, start=1).shape == (2, 5, 61)


@torch.no_grad()
def test_the_whole_model_is_a_half_too() -> None:
    batch = fields("right")
    whole = load_half(str(checkpoint("qwen3")), Parts.whole(NUM_BLOCKS))
    wanted = base_model("qwen3")(**batch).logits
    got = whole.logits_of(batch["input_ids"], batch["attention_mask"])
    assert torch.equal(got, wanted)


def test_the_last_hidden_state_comes_back_if_no_block_is_left() -> None:
    hidden = torch.randn(2, 5, 16)
    assert load_worker("llama").hidden(hidden, None, start=NUM_BLOCKS) is hidden


def test_what_a_half_does_not_hold_cannot_be_asked_of_it() -> None:
    client, worker = load_client("llama", 2), load_worker("llama", lowest_cut=2)
    ids, hidden = torch.ones(1, 3, dtype=torch.long), torch.randn(1, 3, 16)
    with pytest.raises(SplitError, match="does not hold the embeddings"):
        worker.embed(ids, None)
    with pytest.raises(SplitError, match="does not hold the head"):
        client.logits(hidden, None, start=NUM_BLOCKS)
    with pytest.raises(SplitError, match="does not hold the whole model"):
        worker.logits_of(ids, None)
    with pytest.raises(SplitError, match=r"holds blocks \[2, 3\), it cannot run from 1"):
        worker.hidden(hidden, None, start=1)
    with pytest.raises(SplitError, match="cannot run from 4"):
        worker.logits(hidden, None, start=4)


def test_parts_of_both_sides_cover_the_model_once() -> None:
    for cut in range(1, NUM_BLOCKS + 1):
        client = Parts.of_client(cut, keeps_labels=False)
        worker = Parts.of_worker(cut, NUM_BLOCKS)
        assert (client.embeddings, client.head) == (True, False)
        assert (worker.embeddings, worker.head) == (False, True)
        assert client.span == Span(start=0, stop=worker.span.start)
        found = architecture("llama")
        missing = absent_modules(found, client), absent_modules(found, worker)
        assert not missing[0] & missing[1]
        everything = {f"model.layers.{index}" for index in range(NUM_BLOCKS)}
        assert missing[0] | missing[1] == everything | {
            "model.embed_tokens",
            "model.norm",
            "lm_head",
        }


def test_a_tied_embedding_is_on_both_sides() -> None:
    found = architecture("gpt2")
    assert "transformer.wte" not in absent_modules(found, Parts.of_worker(1, NUM_BLOCKS))
    assert "transformer.wpe" in absent_modules(found, Parts.of_worker(1, NUM_BLOCKS))


def _toy_half(model: PreTrainedModel, parts: Parts) -> Half:
    return Half(model, describe(copy.deepcopy(model).to("meta")), parts)


@torch.no_grad()
def test_blocks_that_are_asked_for_their_kind_before_they_are_called() -> None:
    """Stand-ins answer as the blocks that they stand for."""
    model = Toy(ToyConfig()).eval()
    ids = torch.arange(6).reshape(2, 3)
    half = _toy_half(model, Parts.whole(3))
    hidden = half.embed(ids, None)
    wanted = model(input_ids=ids).logits
    assert torch.equal(half.logits(hidden, None, start=3), wanted)
    embedded = model.embed(ids)
    first = model.blocks[0](embedded)
    assert torch.equal(half.logits(first, None, start=1), wanted)
    assert torch.equal(half.hidden(model.blocks[1](first), None, start=2), hidden)
