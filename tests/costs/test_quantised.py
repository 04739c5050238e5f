"""What a quantised base takes, against real steps, and against the same base in 16 bits."""

import functools

import pytest
from transformers import LlamaConfig, PretrainedConfig

from hsplit_flower.costs import ModelCosts, Workload, client_memory, trace_costs
from hsplit_flower.costs.client_peak import Moment, client_moments
from hsplit_flower.costs.global_update import is_merged
from hsplit_flower.settings import PlanSettings
from hsplit_flower.types import Labels, Start
from tests.costs.real_step import measure_client
from tests.costs.test_memory import CONFIGS

LLAMA_2_7B = LlamaConfig(
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    vocab_size=32000,
    max_position_embeddings=4096,
)


def a_workload(quantised: str, dtype_bytes: int = 4, batch_size: int = 4) -> Workload:
    return Workload(
        batch_size=batch_size,
        sequence_length=32,
        dtype_bytes=dtype_bytes,
        wire_dtype_bytes=dtype_bytes,
        quantised=quantised,
    )


@functools.cache
def costs_of(name: str, workload: Workload) -> ModelCosts:
    return trace_costs(CONFIGS[name], workload)


@functools.cache
def large_costs(quantised: str) -> ModelCosts:
    return trace_costs(LLAMA_2_7B, a_workload(quantised, 2, batch_size=1))


@pytest.mark.parametrize("is_scored", [False, True], ids=["plain", "scored"])
@pytest.mark.parametrize("labels", list(Labels))
@pytest.mark.parametrize(
    ("name", "quantised", "dtype_bytes", "cut", "batch_size"),
    [
        ("llama", "nf4", 4, 3, 1),
        ("llama", "int8", 2, 2, 4),
        ("gpt2", "nf4", 2, 4, 4),
        ("gpt2", "int8", 4, 2, 1),
    ],
)
@pytest.mark.one_in(3)
def test_client_peak_is_predicted_within_a_tenth(
    name: str,
    quantised: str,
    dtype_bytes: int,
    cut: int,
    batch_size: int,
    labels: Labels,
    is_scored: bool,
) -> None:
    """A small batch leaves weights and dequantised matrices the most of the peak."""
    costs = costs_of(name, a_workload(quantised, dtype_bytes, batch_size))
    ranks = {weight.name: 2 for weight in costs.weights}
    # Of a rank that would go into a float32 weight.
    updates = {weight.name: 40 for weight in costs.weights}
    settings = PlanSettings(labels=labels, start=Start.RESTART)
    moments = client_moments(costs, cut=cut, ranks=ranks, settings=settings, update_ranks=updates)
    if not is_scored:
        del moments[Moment.SCORING]
    predicted = max(parts.total_bytes for parts in moments.values())
    measured = measure_client(
        CONFIGS[name],
        costs.workload,
        cut=cut,
        ranks=ranks,
        update_ranks=updates,
        labels=labels,
        is_scored=is_scored,
    )
    messages = (2 if labels is Labels.SERVER else 4) * costs.wire_hidden_bytes
    assert 0.9 * measured.peak_bytes <= predicted - messages <= 1.1 * measured.peak_bytes


def test_nothing_goes_into_a_quantised_weight() -> None:
    costs = costs_of("llama", a_workload("nf4"))
    plain = costs_of("llama", a_workload(""))
    for weight in costs.weights:
        assert is_merged(plain, weight, 64)
        assert not is_merged(costs, weight, 64)


@pytest.mark.parametrize(("quantised", "share"), [("nf4", 0.258), ("int8", 0.500)])
@pytest.mark.one_in(2)
def test_eight_blocks_of_llama_2_7b_against_bfloat16(quantised: str, share: float) -> None:
    plain, small = large_costs(""), large_costs(quantised)
    got = sum(small.block_bytes[:8]) / sum(plain.block_bytes[:8])
    assert got == pytest.approx(share, abs=0.001)
    # Embeddings and head are as they were.
    assert (small.entry_bytes, small.exit_bytes) == (plain.entry_bytes, plain.exit_bytes)


def test_a_matrix_is_there_once_more_while_it_is_used() -> None:
    plain, small = large_costs(""), large_costs("nf4")
    largest = 2 * 4096 * 11008
    more = small.passes[0].working_bytes - plain.passes[0].working_bytes
    assert more == pytest.approx(largest, rel=0.02)
    assert small.passes[0].saved_bytes == plain.passes[0].saved_bytes
    assert small.passes[0].flops == plain.passes[0].flops


def test_a_base_that_is_quantised_already_is_planned_for_as_it_is() -> None:
    def stored(**told: object) -> PretrainedConfig:
        values = {**CONFIGS["llama"].to_dict(), "quantization_config": told}
        return LlamaConfig(**values)

    workload = a_workload("")
    four = trace_costs(
        stored(
            quant_method="bitsandbytes",
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
        ),
        workload,
    )
    assert four.workload.quantised == "nf4"
    assert four == costs_of("llama", a_workload("nf4"))
    eight = trace_costs(stored(quant_method="bitsandbytes", load_in_8bit=True), workload)
    assert eight == costs_of("llama", a_workload("int8"))


def test_a_client_of_little_memory_has_more_blocks() -> None:
    def needed(quantised: str) -> float:
        return client_memory(
            large_costs(quantised), cut=8, ranks={}, settings=PlanSettings()
        ).total_bytes

    assert needed("nf4") < needed("int8") < needed("")
    assert needed("nf4") < 1.9e9
