"""Texts written with a worker over the loopback are those that the whole model writes."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig

from hsplit_flower import split_generate
from hsplit_flower.adapters import LowRank, export_adapter, import_adapter
from hsplit_flower.client import split_generation
from hsplit_flower.client.matching_halves import check_base
from hsplit_flower.client.other_half import OtherHalf, all_logits, attach_part, num_choices
from hsplit_flower.client.split_generation import SplitGenerator, split_writer
from hsplit_flower.client.text_writer import TextWriter
from hsplit_flower.errors import AdapterError, AuthenticationError, CodecError
from hsplit_flower.settings import Decoding, Model, SessionSpec, SplitText
from hsplit_flower.settings import Worker as WorkerSettings
from hsplit_flower.splitting import Parts, load_half, load_tokenizer
from hsplit_flower.wire.next_tokens import NextTokens
from tests.families import FAMILIES, NUM_BLOCKS, fields
from tests.reference.unsplit import base_model
from tests.rounds import global_update
from tests.server.past_runs import learnt
from tests.workers import (
    OPERATOR_TOKEN,
    Worker,
    exchange,
    load_client,
    over_grpc,
    running_worker,
    running_worker_of,
)

PROMPTS = ["The name of the place", "It was", "There is a house near the river, and"]


def spec(cut: int) -> SessionSpec:
    return SessionSpec.to_write(cut=cut, kept_tokens=600)


def whole_tokens(name: str, kind: str, config: GenerationConfig, seed: int) -> Tensor:
    model = base_model(name)
    model.generation_config = GenerationConfig()
    torch.manual_seed(7)
    return model.generate(**inputs(kind, seed), generation_config=config)


def inputs(kind: str, seed: int) -> dict[str, Tensor]:
    batch = fields(kind, seed)
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def split_tokens(worker: Worker, name: str, cut: int, **asked: Any) -> Tensor:
    token = worker.worker.open(spec(cut))
    with exchange(over_grpc, worker, token) as stream:
        other = OtherHalf(stream, worker.half.architecture.vocabulary_size)
        torch.manual_seed(7)
        return SplitGenerator(load_client(name, cut), lambda: nullcontext(other)).generate(**asked)


WAYS = {
    "greedy": {"do_sample": False},
    "beams": {"do_sample": False, "num_beams": 3},
    "drawn": {"do_sample": True, "top_k": 9, "top_p": 0.8, "temperature": 1.3},
    "drawn from all": {"do_sample": True, "top_k": 0},
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.one_in(2)
def test_greedy_tokens_are_those_of_the_whole_model(name: str) -> None:
    seed = list(FAMILIES).index(name)
    config = GenerationConfig(max_new_tokens=8, do_sample=False, pad_token_id=0)
    wanted = whole_tokens(name, "left", config, seed)
    with running_worker(name) as worker:
        for cut in range(1, NUM_BLOCKS + 1):
            asked = {**inputs("left", seed), "generation_config": config}
            assert torch.equal(split_tokens(worker, name, cut, **asked), wanted)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_choose_gives_the_tokens_of_the_whole_model(way: str) -> None:
    config = GenerationConfig(max_new_tokens=9, pad_token_id=0, eos_token_id=[2, 5], **WAYS[way])
    wanted = whole_tokens("gpt2", "unpadded", config, 3)
    with running_worker("gpt2") as worker:
        asked = {**inputs("unpadded", 3), "generation_config": config}
        assert torch.equal(split_tokens(worker, "gpt2", 2, **asked), wanted)


def test_what_is_asked_for_is_what_decides() -> None:
    sizes = [num_choices(GenerationConfig(eos_token_id=[2, 5], **how)) for how in WAYS.values()]
    assert sizes == [1, 9, 9, 0]


def test_known_logits_keep_their_probabilities() -> None:
    logits = torch.randn(4, 61)
    values, tokens = logits.topk(5)
    reply = NextTokens(step=1, logits=values, tokens=tokens, log_sum=logits.logsumexp(1))
    full = all_logits(reply, 61)
    got = full.log_softmax(1).gather(1, tokens)
    assert torch.allclose(got, logits.log_softmax(1).gather(1, tokens), atol=1e-5)
    assert torch.equal(full.topk(5).indices, tokens)
    with pytest.raises(CodecError, match=r"tokens that are not in \[0, 60\)"):
        all_logits(
            NextTokens(step=1, logits=values, tokens=tokens * 0 + 60, log_sum=values[:, 0]), 60
        )
    with pytest.raises(CodecError, match="5 logits without their tokens"):
        all_logits(NextTokens(step=1, logits=values, tokens=None, log_sum=values[:, 0]), 60)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    updates = learnt("llama-tiny", rank=2, size=0.05)
    folder = tmp_path_factory.mktemp("learnt") / "adapter"
    return export_adapter(updates, folder, base_model="llama-tiny", is_transposed=False)


@pytest.fixture(scope="module")
def worker(adapter: Path) -> Iterator[Worker]:
    half = load_half("llama-tiny", Parts.of_worker(2, 8))
    with running_worker_of(half) as running:
        running.worker.load_update(import_adapter(adapter))
        yield running


def reached(worker: Worker, folder: Path, token: str = OPERATOR_TOKEN) -> WorkerSettings:
    file = folder / "token"
    file.write_text(token, encoding="utf-8")
    return WorkerSettings(address=worker.address, operator_token_file=str(file))


def test_both_sides_have_their_part_of_the_adapter(
    adapter: Path, worker: Worker, tmp_path: Path
) -> None:
    """Several prompts side by side, and their session closed."""
    half = load_half("llama-tiny", Parts.whole(8))
    half.model.generation_config = GenerationConfig()
    tokenizer = load_tokenizer("llama-tiny")
    decoding = Decoding(max_new_tokens=12)
    bare = TextWriter(half.model, tokenizer)
    prompts = [bare.encoded(prompt) for prompt in PROMPTS]
    untrained = bare.texts(prompts, decoding)
    attach_part(half, import_adapter(adapter))
    wanted = bare.texts(prompts, decoding)
    assert wanted != untrained
    there = reached(worker, tmp_path)
    for cut in (0, 5):
        got = split_generate(
            PROMPTS,
            model="llama-tiny",
            worker=there,
            adapter=adapter,
            decoding=decoding,
            text=SplitText(cut=cut, context_tokens=64),
        )
        assert got == wanted
    assert len(worker.sessions) == 0


def test_a_device_s_own_adapter_is_on_top_in_its_half(
    adapter: Path, worker: Worker, tmp_path: Path
) -> None:
    """Of three blocks, which a device with fewer cannot use."""
    blocks = {weight.name: weight.block for weight in worker.half.architecture.weights}
    own = {
        name: update.scale(-2.0)
        for name, update in learnt("llama-tiny", rank=3, size=0.05).items()
        if blocks[name] < 3
    }
    folder = export_adapter(own, tmp_path / "own", base_model="llama-tiny", is_transposed=False)
    both = {
        name: update + own[name] if name in own else update
        for name, update in import_adapter(adapter).items()
    }
    half = load_half("llama-tiny", Parts.whole(8))
    half.model.generation_config = GenerationConfig()
    attach_part(half, both)
    bare = TextWriter(half.model, load_tokenizer("llama-tiny"))
    decoding = Decoding(max_new_tokens=12)
    wanted = bare.texts([bare.encoded(prompt) for prompt in PROMPTS], decoding)

    def written(cut: int, **more: Any) -> list[str]:
        return split_generate(
            PROMPTS,
            model="llama-tiny",
            worker=reached(worker, tmp_path),
            adapter=adapter,
            decoding=decoding,
            text=SplitText(cut=cut, context_tokens=64),
            **more,
        )

    assert written(3, personal=folder) == wanted != written(3)
    with pytest.raises(AdapterError, match="of the first 3 blocks, and this device has 2"):
        written(2, personal=folder)
    assert len(worker.sessions) == 0


def test_halves_that_do_not_belong_together_are_refused(worker: Worker, tmp_path: Path) -> None:
    there = reached(worker, tmp_path)
    with pytest.raises(AdapterError, match=r"has the adapter \w{16}, and this device no adapter"):
        split_generate(PROMPTS, model="llama-tiny", worker=there)
    stranger = reached(worker, tmp_path, "of somebody else, and long")
    with pytest.raises(AuthenticationError):
        split_generate(PROMPTS, model="llama-tiny", worker=stranger)


def test_a_writer_goes_on_after_its_worker_has_dropped_it(
    adapter: Path, worker: Worker, tmp_path: Path
) -> None:
    """As it drops whoever is silent for long: a conversation may pause."""
    how, there = Decoding(max_new_tokens=2), reached(worker, tmp_path)
    with split_writer(Model(name="llama-tiny"), there, adapter=adapter) as writer:
        prompts = [writer.encoded(PROMPTS[0])]
        first = writer.texts(prompts, how)
        worker.sessions.remove_all()
        assert writer.texts(prompts, how) == first
    assert len(worker.sessions) == 0


def test_an_adapter_that_comes_while_the_half_is_loaded_is_noticed(
    adapter: Path, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last thing before the session is opened is to compare the bases."""

    def and_then_a_run_begins(*halves: Any) -> None:
        check_base(*halves)
        worker.worker.load_update({})

    monkeypatch.setattr(split_generation, "check_base", and_then_a_run_begins)
    try:
        with pytest.raises(AdapterError, match="has no adapter, and this device the adapter"):
            split_generate(
                PROMPTS, model="llama-tiny", worker=reached(worker, tmp_path), adapter=adapter
            )
    finally:
        worker.worker.load_update(import_adapter(adapter))


def test_an_adapter_of_another_model_is_refused() -> None:
    strange = {"model.layers.9.mlp": LowRank.zeros(4, 4), **global_update("llama")}
    with pytest.raises(AdapterError, match="weights that the model lacks"):
        attach_part(load_client("llama", 2), strange)
