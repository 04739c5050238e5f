"""The methods as Flower strategies, one a file."""

from .hsplit_lora import HSplitLoRA as HSplitLoRA
