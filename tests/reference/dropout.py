"""PEFT's adapters on an unsplit model with dropout whose masks are drawn one by one, by name."""

import hashlib
from collections.abc import Callable

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


class _Masked(nn.Module):
    """What `nn.Dropout` computes, with the mask of a weight in one pass of one step."""

    def __init__(self, name: str, probability: float, seed: int, now: list[int]) -> None:
        super().__init__()
        self.name, self.probability, self.seed, self.now = name, probability, seed, now

    def forward(self, x: Tensor) -> Tensor:
        step, index = self.now
        told = hashlib.sha256(f"{self.seed}/{step}/{index}/{self.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(told[:7], "big"))
        kept = torch.empty(x.shape, dtype=torch.bool).bernoulli_(
            1 - self.probability, generator=generator
        )
        return x * kept / (1 - self.probability)


def with_dropout(model: PeftModel, probability: float, seed: int) -> Callable[[int, int], None]:
    """Put it where PEFT's own is; gives what must be told before each pass, from step 1."""
    now = [0, 0]
    for name, layer in model.base_model.model.named_modules():
        if isinstance(layer, LoraLayer) and "trained" in layer.lora_A:
            layer.lora_dropout["trained"] = _Masked(name, probability, seed, now)

    def tell(step: int, index: int) -> None:
        now[:] = step, index

    return tell
