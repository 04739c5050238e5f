"""Models whose blocks look at their numbers: a mixture of experts sends tokens here or there."""

import logging
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GptOssConfig, MixtralConfig, PretrainedConfig
from transformers import Qwen3MoeConfig as QwenConfig

from benchmarks.tools.client_run import ClientRun, live_peak_bytes
from benchmarks.tools.memory_comparison import predicted_bytes
from hsplit_flower.costs import Workload, trace_costs
from hsplit_flower.errors import UnsupportedModelError

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
}
EXPERT_WIDTH = 96
CONFIGS: dict[str, PretrainedConfig] = {
    "mixtral": MixtralConfig(**SIZES, intermediate_size=EXPERT_WIDTH, num_local_experts=4),
    "qwen3_moe": QwenConfig(
        **SIZES, moe_intermediate_size=EXPERT_WIDTH, num_experts=8, num_experts_per_tok=2
    ),
    "gpt_oss": GptOssConfig(**SIZES, intermediate_size=EXPERT_WIDTH, num_local_experts=4),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("attention", "checkpointing"), [("eager", False), ("sdpa", True)])
@pytest.mark.one_in(2)
def test_a_round_takes_what_is_predicted(name: str, attention: str, checkpointing: bool) -> None:
    torch.manual_seed(0)
    workload = Workload(batch_size=4, sequence_length=64, attention=attention)
    costs = trace_costs(CONFIGS[name], workload)
    run = ClientRun(
        config=CONFIGS[name],
        workload=workload,
        cut=3,
        ranks={weight.name: 2 for weight in costs.weights},
        checkpointing=checkpointing,
    )
    assert predicted_bytes(run, costs) == pytest.approx(live_peak_bytes(run), rel=0.1)


def test_operations_of_the_experts_are_counted() -> None:
    workload = Workload(batch_size=2, sequence_length=32)
    mixture = trace_costs(CONFIGS["mixtral"], workload)
    # Two experts a token, three matrices each, a multiplication and an addition a weight.
    experts = 2 * 3 * 2 * SIZES["hidden_size"] * EXPERT_WIDTH * workload.num_tokens
    assert mixture.passes[0].forward_flops > experts
    assert mixture.passes[0].forward_flops < 3 * experts


@pytest.mark.parametrize("dtype_bytes", [2, 4])
def test_what_is_done_instead_is_said(dtype_bytes: int, caplog: pytest.LogCaptureFixture) -> None:
    workload = Workload(batch_size=2, sequence_length=8, dtype_bytes=dtype_bytes)
    with caplog.at_level(logging.WARNING):
        trace_costs(CONFIGS["mixtral"], workload)
    (record,) = caplog.records
    assert "a block of mixtral cannot be traced without memory" in record.getMessage()
    assert "within 10 % of what was measured" in record.getMessage()


def test_a_block_that_does_not_run_at_all_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    block = type(AutoModelForCausalLM.from_config(CONFIGS["mixtral"]).model.layers[0])
    forward = block.forward

    def broken(self: torch.nn.Module, hidden: torch.Tensor, *args: object, **kwargs: object) -> Any:
        # What a model is made of is found out on the meta device.
        if hidden.device.type != "meta":
            raise RuntimeError("no such kernel")
        return forward(self, hidden, *args, **kwargs)

    monkeypatch.setattr(block, "forward", broken)
    with pytest.raises(UnsupportedModelError, match=r"a mixtral costs .* no such kernel"):
        trace_costs(CONFIGS["mixtral"], Workload(batch_size=1, sequence_length=4))
