"""What adapters keep where they have dropout, against the live bytes of real steps."""

import pytest
from transformers import GPT2Config, LlamaConfig

from hsplit_flower.costs import Workload, client_memory, trace_costs
from hsplit_flower.settings import PlanSettings
from hsplit_flower.types import Start
from tests.costs.real_step import measure_client

SIZES = {"vocab_size": 200, "num_hidden_layers": 4}
CONFIGS = {
    "llama": LlamaConfig(
        hidden_size=64, intermediate_size=172, num_attention_heads=4, num_key_value_heads=2, **SIZES
    ),
    "gpt2": GPT2Config(n_embd=64, n_layer=4, n_head=4, vocab_size=200),
}
SETTINGS = PlanSettings(start=Start.RESTART)


@pytest.mark.parametrize(
    ("name", "dtype_bytes", "cut", "rank"),
    [("llama", 4, 3, 8), ("llama", 2, 2, 2), ("gpt2", 4, 1, 2), ("gpt2", 2, 4, 1)],
)
def test_client_peak_with_dropout_is_predicted_within_a_tenth(
    name: str, dtype_bytes: int, cut: int, rank: int
) -> None:
    workload = Workload(
        batch_size=4,
        sequence_length=32,
        dtype_bytes=dtype_bytes,
        wire_dtype_bytes=dtype_bytes,
        has_dropout=True,
    )
    costs = trace_costs(CONFIGS[name], workload)
    ranks = {weight.name: rank for weight in costs.weights}
    predicted = client_memory(costs, cut=cut, ranks=ranks, settings=SETTINGS).total_bytes
    measured = measure_client(
        CONFIGS[name], workload, cut=cut, ranks=ranks, is_scored=True, dropout=0.2
    ).peak_bytes
    assert measured <= predicted - 2 * costs.wire_hidden_bytes <= 1.1 * measured
