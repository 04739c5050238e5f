"""Which linear layers PEFT puts an adapter on when it is asked for them by name.

It has rules of its own for some families: what a mixture's experts were once called stands for
other parameters, and layers whose matrix a fused kernel reads must not be wrapped. An adapter that
it does not put there could be neither compared with PEFT nor loaded by it.
"""

import functools
import warnings

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PretrainedConfig


class _OneLayer(nn.Module):
    """A model that is one layer under its name, of a type that PEFT may have rules for."""

    def __init__(self, model_type: str, name: str) -> None:
        super().__init__()
        self.config = type("Config", (PretrainedConfig,), {"model_type": model_type})()
        holder: nn.Module = self
        *outer, last = name.split(".")
        for part in outer:
            holder.add_module(part, nn.Module())
            holder = holder.get_submodule(part)
        holder.add_module(last, nn.Linear(1, 1, bias=False, device="meta"))


@functools.cache
def is_adaptable(model_type: str, name: str) -> bool:
    """Whether PEFT adapts the linear layer of this name, in a model of this type."""
    model = _OneLayer(model_type, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = LoraConfig(r=1, target_modules=[name])
            inject_adapter_in_model(config, model, low_cpu_mem_usage=True)
    except ValueError:
        return False
    return isinstance(model.get_submodule(name), LoraLayer)
