"""The paper's models, devices, server and link, as the cost model has them."""

from dataclasses import dataclass
from functools import cache
from typing import Final

from transformers import GPT2Config, LlamaConfig, PretrainedConfig

from benchmarks.study.arms import HETEROGENEOUS, HOMOGENEOUS
from hsplit_flower.costs import ModelCosts, Workload, trace_costs
from hsplit_flower.types import DeviceProfile

GIGABYTE: Final = 1e9
MEGABIT_BYTES: Final = 1e6 / 8
LLAMA, GPT2 = "LLaMA-2-7B", "GPT-2-L"
MODELS: Final[dict[str, PretrainedConfig]] = {
    LLAMA: LlamaConfig(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        vocab_size=32000,
        max_position_embeddings=4096,
    ),
    GPT2: GPT2Config(n_embd=1280, n_layer=36, n_head=20, bos_token_id=0, eos_token_id=0),
}
STANDS_FOR: Final = {"llama-tiny": LLAMA, "gpt2-tiny": GPT2}
# A step of E2E: its examples have at most some 130 tokens in either model's vocabulary.
BATCH_SIZE, SEQUENCE_LENGTH, DTYPE_BYTES = 4, 128, 2

# "Uniform in 5 to 20 GB": evenly spread, so that no seed decides who can take part.
MEMORY_GB: Final = {
    HETEROGENEOUS: (5.0, 8.75, 12.5, 16.25, 20.0),
    HOMOGENEOUS: (12.5,) * 5,
}
# The makers' 2 · cores · clock, in float32 on CUDA cores: 16-bit tensor cores do more, and no
# training reaches a peak, so it is a middle.
XAVIER_FLOPS: Final = 2 * 512 * 1.377e9
SERVER_FLOPS: Final = 8 * 2 * 10496 * 1.695e9
SERVER_GB: Final = 8 * 24.0
LINK_MBPS, ROUND_TRIP_MS = 100.0, 20.0


@dataclass(frozen=True, kw_only=True)
class Link:
    """A client's, the same rate in both directions."""

    mbps: float = LINK_MBPS
    round_trip_ms: float = ROUND_TRIP_MS

    def seconds(self, num_bytes: float) -> float:
        """A message one way, with the way back of its acknowledgement."""
        return num_bytes / (self.mbps * MEGABIT_BYTES) + self.round_trip_ms / 1e3


@cache
def costs_of(model: str, wire_dtype_bytes: int = DTYPE_BYTES) -> ModelCosts:
    """Traced from the model's own code."""
    workload = Workload(
        batch_size=BATCH_SIZE,
        sequence_length=SEQUENCE_LENGTH,
        dtype_bytes=DTYPE_BYTES,
        wire_dtype_bytes=wire_dtype_bytes,
    )
    return trace_costs(MODELS[model], workload)


def xavier(memory_gb: float, link: Link) -> DeviceProfile:
    """A Jetson AGX Xavier that may use so much of its memory."""
    return DeviceProfile(
        memory_bytes=memory_gb * GIGABYTE,
        flops_per_second=XAVIER_FLOPS,
        up_bytes_per_second=link.mbps * MEGABIT_BYTES,
        down_bytes_per_second=link.mbps * MEGABIT_BYTES,
        round_trip_seconds=link.round_trip_ms / 1e3,
    )


def server(memory_gb: float = SERVER_GB) -> DeviceProfile:
    """Eight RTX 3090, counted as one device."""
    return DeviceProfile(memory_bytes=memory_gb * GIGABYTE, flops_per_second=SERVER_FLOPS)
