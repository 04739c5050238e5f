"""The methods as Flower strategies, one a file."""

from collections.abc import Mapping

from ..server.split_strategy import SplitStrategy
from .hsplit_lora import HSplitLoRA as HSplitLoRA
from .noise_free_lora import NoiseFreeLoRA as NoiseFreeLoRA
from .split_lora import SplitLoRA as SplitLoRA

STRATEGIES: Mapping[str, type[SplitStrategy]] = {
    "hsplit-lora": HSplitLoRA,
    "split-lora": SplitLoRA,
}
"""By the name of their method's row."""
