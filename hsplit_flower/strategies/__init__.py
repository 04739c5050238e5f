"""The methods as Flower strategies, one a file."""

from collections.abc import Mapping

from ..server.federated_strategy import FederatedStrategy
from .fed_lora import FedLoRA as FedLoRA
from .flex_lora import FlexLoRA as FlexLoRA
from .flora import FLoRA as FLoRA
from .full_tuning import FullTuning as FullTuning
from .het_lora import HetLoRA as HetLoRA
from .hsplit_lora import HSplitLoRA as HSplitLoRA
from .hsplit_lora_one_cut import HSplitLoRAOneCut as HSplitLoRAOneCut
from .hsplit_lora_padded import HSplitLoRAPadded as HSplitLoRAPadded
from .hsplit_lora_uniform import HSplitLoRAUniform as HSplitLoRAUniform
from .noise_free_lora import NoiseFreeLoRA as NoiseFreeLoRA
from .split_lora import SplitLoRA as SplitLoRA

STRATEGIES: Mapping[str, type[FederatedStrategy]] = {
    "fed-lora": FedLoRA,
    "flex-lora": FlexLoRA,
    "flora": FLoRA,
    "full-tuning": FullTuning,
    "het-lora": HetLoRA,
    "hsplit-lora": HSplitLoRA,
    "hsplit-lora-one-cut": HSplitLoRAOneCut,
    "hsplit-lora-padded": HSplitLoRAPadded,
    "hsplit-lora-uniform": HSplitLoRAUniform,
    "split-lora": SplitLoRA,
}
"""By the name of their method's row."""
