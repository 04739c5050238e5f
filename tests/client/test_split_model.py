"""Two halves that keep keys and values write what the whole model writes, whatever its family."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.cache_utils import Cache

from hsplit_flower.client.split_model import Shown, split_model
from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import Half, Parts, build_half
from tests.families import FAMILIES, NUM_BLOCKS, fields, shrunk
from tests.reference.unsplit import base_model
from tests.workers import load_client, load_worker

NEW_TOKENS = 8


class OtherHalf:
    """The blocks above a cut, in this process."""

    def __init__(self, half: Half, cut: int) -> None:
        self.half, self.cut = half, cut
        self.cache: Cache = half.new_cache()
        self.mask = torch.empty(0, 0, dtype=torch.long)

    def follow(self, shown: Shown) -> Tensor:
        new = torch.ones(shown.hidden.shape[:2], dtype=torch.long)
        if shown.begins:
            self.cache = self.half.new_cache()
            self.mask = new if shown.mask is None else shown.mask
        else:
            if shown.parents is not None:
                self.cache.reorder_cache(shown.parents)
                self.mask = self.mask[shown.parents]
            self.mask = torch.cat([self.mask, new], dim=1)
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -new.shape[1] :]
        hidden = self.half.hidden(
            shown.hidden, self.mask, positions, start=self.cut, cache=self.cache
        )
        return self.half.logits(hidden[:, -1:], None, start=NUM_BLOCKS)[:, -1]


def whole_model(name: str) -> PreTrainedModel:
    """The unsplit model, which says nothing of decoding itself."""
    model = base_model(name)
    model.generation_config = GenerationConfig()
    return model


def written(model: PreTrainedModel, kind: str, seed: int, **options: object) -> Tensor:
    batch = fields(kind, seed)
    how = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0, **options)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    return model.generate(input_ids=ids, attention_mask=mask, generation_config=how)


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "left") for name in FAMILIES), ("gpt2", "unpadded")]
)
@pytest.mark.one_in(2)
def test_greedy_tokens_are_those_of_the_whole_model(name: str, kind: str) -> None:
    seed = list(FAMILIES).index(name)
    wanted = written(whole_model(name), kind, seed)
    worker = load_worker(name)
    for cut in range(1, NUM_BLOCKS):
        other = OtherHalf(worker, cut)
        model = split_model(load_client(name, cut), other.follow)
        assert torch.equal(written(model, kind, seed), wanted)
        held = {layer.get_seq_length() for layer in other.cache.layers[cut:]}
        assert held == {9 + NEW_TOKENS - 1}, "each token is run once"


@pytest.mark.parametrize("name", ["gpt2", "mistral"])
def test_beams_are_followed_on_both_sides(name: str) -> None:
    wanted = written(whole_model(name), "left", 0, num_beams=3)
    other = OtherHalf(load_worker(name), 2)
    assert torch.equal(
        written(split_model(load_client(name, 2), other.follow), "left", 0, num_beams=3), wanted
    )


@pytest.mark.parametrize("family", ["mamba", "lfm2", "qwen3_next"])
def test_a_model_that_keeps_something_else_is_refused(family: str) -> None:
    config = shrunk(family)
    if family == "lfm2":
        config.layer_types = ["conv", "full_attention", "conv"]
    half = build_half(config, Parts.of_client(1, keeps_labels=False))
    with pytest.raises(
        UnsupportedModelError, match=rf"'{family}' cannot write texts in two halves"
    ):
        split_model(half, _unasked())


def _unasked() -> Callable[[Shown], Tensor]:
    def follow(shown: Shown) -> Tensor:
        raise AssertionError("nothing is asked of a model that is refused")

    return follow
