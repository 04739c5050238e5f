"""Small models of two families, what they cost, and global updates of them."""

import functools

from transformers import GPT2Config, LlamaConfig, PretrainedConfig

from hsplit_flower.costs import ModelCosts, Workload, trace_costs


def small(family: str, *, quick: bool) -> PretrainedConfig:
    """A small model of the family: eight blocks."""
    width = 128 if quick else 256
    if family == "gpt2":
        return GPT2Config(
            n_embd=width,
            n_layer=8,
            n_head=4,
            vocab_size=2000,
            n_positions=512,
            bos_token_id=0,
            eos_token_id=0,
        )
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=2000,
        max_position_embeddings=512,
    )


@functools.cache
def costs_of(family: str, workload: Workload, quick: bool) -> ModelCosts:
    """Costs of the small model."""
    return trace_costs(small(family, quick=quick), workload)


def update_ranks(costs: ModelCosts, share: float) -> dict[str, int]:
    """Ranks of a global update, as a share of the highest that each weight's can have."""
    return {w.name: round(share * min(w.in_features, w.out_features)) for w in costs.weights}
