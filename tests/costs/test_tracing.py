"""Traced costs against real runs and against arithmetic by hand."""

import functools

import pytest
from transformers import LlamaConfig

from hsplit_flower.costs import ModelCosts, Workload, trace_costs
from hsplit_flower.errors import ConfigError, UnsupportedModelError
from hsplit_flower.splitting import build_empty
from tests.costs.real_step import measure_client
from tests.families import FAMILIES, shrunk

RANK = 3


def workload(attention: str = "eager", dtype_bytes: int = 4) -> Workload:
    return Workload(batch_size=3, sequence_length=10, dtype_bytes=dtype_bytes, attention=attention)


def saved_by_a_block(costs: ModelCosts, rank: int) -> float:
    paths = [costs.path_in_block(weight) for weight in costs.weights if weight.block == 0]
    products = rank * len(paths) * costs.adapter_activation_bytes_per_rank
    return (
        costs.passes[0].saved_bytes + costs.passes[0].adapter_inputs(paths).total_bytes + products
    )


@functools.cache
def costs_of(name: str, attention: str = "eager", dtype_bytes: int = 4) -> ModelCosts:
    return trace_costs(FAMILIES[name].config(), workload(attention, dtype_bytes))


@pytest.mark.parametrize(
    ("name", "dtype_bytes"), [*((name, 4) for name in FAMILIES), ("llama", 2), ("gpt2", 2)]
)
@pytest.mark.one_in(2)
def test_a_block_keeps_what_a_real_one_keeps(name: str, dtype_bytes: int) -> None:
    config = FAMILIES[name].config()
    load = workload(FAMILIES[name].attention or "sdpa", dtype_bytes)
    costs = costs_of(name, load.attention, dtype_bytes)
    ranks = {weight.name: RANK for weight in costs.weights}
    first, both = (measure_client(config, load, cut=cut, ranks=ranks).saved_bytes for cut in (1, 2))
    # The first block's input needs no gradient; every further block keeps the full amount.
    assert both - first == saved_by_a_block(costs, RANK)


def test_attention_decides_whether_the_scores_are_kept() -> None:
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    batch, seq, heads = 2, 512, 4
    eager, fused = (
        trace_costs(
            config,
            Workload(batch_size=batch, sequence_length=seq, attention=attention),
        )
        for attention in ("eager", "sdpa")
    )
    scores = batch * heads * seq * seq * 4
    mask = batch * seq * seq * 4
    assert eager.passes[0].saved_bytes > scores
    assert fused.passes[0].saved_bytes < eager.passes[0].saved_bytes - scores + 2 * mask
    assert eager.passes[0].flops == fused.passes[0].flops


def test_operations_of_a_llama_block_by_hand() -> None:
    config = FAMILIES["llama"].config()
    costs = costs_of("llama")
    batch, seq, hidden = 3, 10, config.hidden_size
    block = [weight for weight in costs.weights if weight.block == 0]
    base = 2 * batch * seq * sum(weight.in_features * weight.out_features for weight in block)
    adapter = 2 * batch * seq * sum(weight.parameters_per_rank for weight in block)
    attention = 2 * 2 * batch * seq * seq * hidden
    assert costs.passes[0].forward_flops == base + adapter + attention
    # Backward: inputs' gradients only, as W is frozen; twice for adapters and attention.
    assert costs.passes[0].backward_flops == base + 2 * adapter + 2 * attention


def test_head_of_a_llama_by_hand() -> None:
    config = FAMILIES["llama"].config()
    costs = costs_of("llama")
    one_way = 2 * 3 * 10 * config.hidden_size * config.vocab_size
    # Some versions of transformers take a product for the rotary positions, too.
    assert costs.head.forward_flops == pytest.approx(one_way, rel=1e-3)
    assert costs.head.backward_flops == one_way
    # Softmax over all positions but the last is kept for the backward pass.
    assert costs.head.saved_bytes >= 3 * 9 * config.vocab_size * 4


@pytest.mark.parametrize("name", list(FAMILIES))
def test_weights_add_up_to_the_model(name: str) -> None:
    config = FAMILIES[name].config()
    costs = costs_of(name, FAMILIES[name].attention or "sdpa")
    model = build_empty(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    held = costs.entry_bytes + sum(costs.block_bytes) + costs.exit_bytes - costs.tied_bytes
    assert held == 4 * total
    assert costs.num_blocks == config.num_hidden_layers
    assert (costs.tied_bytes > 0) == bool(config.tie_word_embeddings)


def test_weights_of_two_bytes_are_half_as_large() -> None:
    single, half = (costs_of("gpt2", "eager", size) for size in (4, 2))
    assert half.block_bytes == tuple(size / 2 for size in single.block_bytes)
    assert half.entry_bytes == single.entry_bytes / 2


def test_scored_inputs_are_those_of_adapters_in_float32_and_copies_in_bfloat16() -> None:
    config = FAMILIES["llama"].config()
    paths = ["self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"]
    single, half = (costs_of("llama", "eager", size).passes[0] for size in (4, 2))
    assert single.adapter_inputs(paths).copies_bytes == 0
    assert half.adapter_inputs(paths).originals_bytes == 0
    tokens = 30
    # q and k read one tensor; in bfloat16 PEFT makes each a float32 copy of its own.
    wide, narrow = config.intermediate_size, config.hidden_size
    assert single.adapter_inputs(paths).total_bytes == 4 * tokens * (narrow + wide)
    assert half.adapter_inputs(paths).total_bytes == 4 * tokens * (2 * narrow + wide)
    assert half.layer_inputs_bytes == single.layer_inputs_bytes / 2


def test_activations_grow_with_the_batch() -> None:
    config = FAMILIES["mistral"].config()
    one, two = (
        trace_costs(config, Workload(batch_size=size, sequence_length=8)) for size in (1, 2)
    )
    assert two.passes[0].saved_bytes == 2 * one.passes[0].saved_bytes
    assert two.passes[0].flops == 2 * one.passes[0].flops
    assert two.hidden_bytes == 2 * one.hidden_bytes == 2 * 8 * config.hidden_size * 4


def test_llama2_7b_needs_nothing_but_its_configuration() -> None:
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        vocab_size=32000,
    )
    costs = trace_costs(config, Workload(batch_size=2, sequence_length=512, dtype_bytes=2))
    held = costs.entry_bytes + sum(costs.block_bytes) + costs.exit_bytes
    assert held == 2 * 6_738_415_616
    assert len(costs.weights) == 224


def test_a_model_that_cannot_be_split_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match="t5"):
        trace_costs(shrunk("t5"), workload())


def test_workload_is_checked() -> None:
    with pytest.raises(
        ConfigError, match=r"batch_size.*0.*dtype_bytes must be one of \[2, 4\], got 8"
    ):
        Workload(batch_size=0, sequence_length=4, dtype_bytes=8)
