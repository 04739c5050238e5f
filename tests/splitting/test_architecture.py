"""The parts of a decoder are found by running it; what cannot be split is refused, and why."""

import pytest
import torch
from transformers import BartConfig, PretrainedConfig, T5Config, ViTConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from hsplit_flower.errors import SplitError, UnsupportedModelError
from hsplit_flower.splitting import Architecture, build_empty, describe, read_architecture
from hsplit_flower.types import Span
from tests.families import FAMILIES, NUM_BLOCKS, POSITIONS, VOCABULARY, shrunk
from tests.rounds import architecture
from tests.splitting.toys import REASONS, GivesMore, Toy, ToyConfig


def test_gpt2() -> None:
    found = architecture("gpt2")
    assert found.blocks == "transformer.h"
    assert found.embedding == "transformer.wte"
    assert found.entry == ("transformer.wte", "transformer.wpe")
    assert found.exit == ("transformer.ln_f", "lm_head")
    assert found.is_tied
    shapes = {w.name: (w.out_features, w.in_features) for w in found.weights if w.block == 1}
    assert shapes == {
        "transformer.h.1.attn.c_attn": (48, 16),
        "transformer.h.1.attn.c_proj": (16, 16),
        "transformer.h.1.mlp.c_fc": (64, 16),
        "transformer.h.1.mlp.c_proj": (16, 64),
    }


def test_llama() -> None:
    found = architecture("llama")
    assert found.blocks == "model.layers"
    assert found.embedding == "model.embed_tokens"
    assert found.entry == ("model.embed_tokens",)
    assert found.exit == ("model.norm", "lm_head")
    assert not found.is_tied
    shapes = {w.name: (w.out_features, w.in_features) for w in found.weights if w.block == 2}
    assert shapes == {
        "model.layers.2.self_attn.q_proj": (16, 16),
        "model.layers.2.self_attn.k_proj": (8, 16),
        "model.layers.2.self_attn.v_proj": (8, 16),
        "model.layers.2.self_attn.o_proj": (16, 16),
        "model.layers.2.mlp.gate_proj": (24, 16),
        "model.layers.2.mlp.up_proj": (24, 16),
        "model.layers.2.mlp.down_proj": (16, 24),
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_sizes_are_those_of_the_configuration(name: str) -> None:
    found = architecture(name)
    assert found.model_type == name
    assert (found.num_blocks, found.hidden_size) == (NUM_BLOCKS, 16)
    assert (found.vocabulary_size, found.max_positions) == (VOCABULARY, POSITIONS)
    assert {weight.block for weight in found.weights} == set(range(NUM_BLOCKS))


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_reading_builds_no_weights_and_leaves_the_configuration(name: str) -> None:
    config = FAMILIES[name].config()
    before = config.to_dict()
    model = build_empty(config)
    describe(model)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert config.to_dict() == before


def test_weights_in_a_span() -> None:
    found = architecture("llama")
    assert found.weights_in(Span(start=0, stop=NUM_BLOCKS)) == found.weights
    assert found.weights_in(Span(start=1, stop=1)) == ()
    assert {w.block for w in found.weights_in(Span(start=1, stop=3))} == {1, 2}


@pytest.mark.parametrize("cut", [1, 2, NUM_BLOCKS])
def test_a_cut_in_range_is_fine(cut: int) -> None:
    architecture("llama").check_cut(cut)


@pytest.mark.parametrize("cut", [-1, 0, NUM_BLOCKS + 1])
def test_a_cut_out_of_range_is_refused(cut: int) -> None:
    with pytest.raises(SplitError, match=f"cut {cut} is out of range: a llama of 3 .* at 1 to 3"):
        architecture("llama").check_cut(cut)


@pytest.mark.parametrize("config", [T5Config(), BartConfig(), ViTConfig()])
def test_what_is_not_a_decoder_is_refused(config: PretrainedConfig) -> None:
    reason = "encoder-decoder" if config.is_encoder_decoder else "no causal language model"
    with pytest.raises(UnsupportedModelError, match=f"'{config.model_type}' cannot.*{reason}"):
        read_architecture(config)


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("openai-gpt", "does not take and give one hidden state"),
        ("rwkv", "the input of block 6 is not block 5's output"),
        ("gemma4_text", "also reads something that is computed from the tokens"),
        ("zamba2", "share weights"),
        ("xlm", "several lists"),
        ("reformer", "cannot be built from its configuration"),
    ],
)
@pytest.mark.one_in(2)
def test_real_models_that_cannot_be_split(model_type: str, reason: str) -> None:
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        pytest.skip(f"this version of transformers has no {model_type}")
    with pytest.raises(UnsupportedModelError, match=f"type '{model_type}' cannot.*{reason}"):
        read_architecture(CONFIG_MAPPING[model_type]())


def _toy(kind: type[Toy]) -> Toy:
    with torch.device("meta"):
        return kind(ToyConfig()).eval()


def test_a_model_that_transformers_does_not_have_can_be_split() -> None:
    found = describe(_toy(Toy))
    assert (found.blocks, found.entry, found.exit) == ("blocks", ("embed",), ("norm", "head"))
    assert [weight.name for weight in found.weights] == [f"blocks.{i}.inner" for i in range(3)]
    assert found.max_positions is None


def test_what_blocks_give_beside_their_hidden_state_may_be_there_unread() -> None:
    assert describe(_toy(GivesMore)).tuple_length == 2


@pytest.mark.parametrize("kind", REASONS, ids=lambda kind: kind.__name__)
def test_each_reason_against_a_split_is_found(kind: type[Toy]) -> None:
    with pytest.raises(UnsupportedModelError, match=f"'hsplit-toy' cannot .*{REASONS[kind]}"):
        describe(_toy(kind))


def test_looking_leaves_no_hooks() -> None:
    model = _toy(Toy)
    describe(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_models_are_found_by_their_structure() -> None:
    """No model's name is in the library: none of transformers' types appears in this room."""
    from pathlib import Path

    from hsplit_flower import splitting

    source = "".join(p.read_text() for p in Path(splitting.__file__).parent.glob("*.py"))
    types = {config.model_type for config in MODEL_FOR_CAUSAL_LM_MAPPING}
    quoted = {t for t in types if f'"{t}"' in source or f"'{t}'" in source}
    assert not quoted


def _known() -> list[Architecture]:
    return [architecture(name) for name in FAMILIES]


def test_every_part_is_named_once() -> None:
    for found in _known():
        parts = [*found.entry, *found.exit, *(weight.name for weight in found.weights)]
        assert len(parts) == len(set(parts))


@pytest.mark.parametrize("model_type", ["falcon", "bloom", "opt", "mixtral"])
def test_tied_heads_are_found(model_type: str) -> None:
    config = shrunk(model_type)
    assert read_architecture(config).is_tied == config.tie_word_embeddings
