"""Loading a half whose linear layers are quantised, tensor by tensor, never whole in float.

Transformers' loader has bitsandbytes quantise each tensor as it is read, or reads the tensors that
are quantised already; its layers then give what they store to ours.
"""

import copy
import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

from ..errors import ConfigError, UnsupportedModelError
from .empty_model import build_empty
from .quantisation import Quantisation, skipped_modules
from .quantised_linear import BLOCK_SIZE, QuantisedLinear

EXTRA = "quantised"
# What transformers and PEFT take for marks of layers that are not here any more.
_MARKS = ("is_loaded_in_4bit", "is_loaded_in_8bit", "is_quantized")


def check_installed() -> None:
    """See that what quantises is there.

    Raises
    ------
    ConfigError
        If it is not, with what to install.
    """
    missing = [
        name for name in ("bitsandbytes", "accelerate") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ConfigError(
            f"a quantised base needs {' and '.join(missing)}: pip install "
            f"'hsplit-flower[{EXTRA}]' wherever it is loaded, or choose another dtype"
        )


def loading_options(
    config: PretrainedConfig,
    quantisation: Quantisation,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
) -> tuple[PretrainedConfig, dict[str, Any]]:
    """The configuration to load with, and what the loader is told besides.

    Parameters
    ----------
    config, quantisation
        The model's.
    dtype
        Type of what is not quantised, and of all computing.
    device
        Where tensors are quantised, and stay.
    """
    check_installed()
    skipped = skipped_modules(build_empty(config), quantisation)
    # Else the loader takes a GPU where there is one.
    options: dict[str, Any] = {"device_map": {"": str(device)}}
    if not quantisation.is_stored:
        is_int8 = quantisation.kind == "int8"
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=is_int8,
            load_in_4bit=not is_int8,
            bnb_4bit_quant_type=quantisation.kind if not is_int8 else "nf4",
            bnb_4bit_use_double_quant=quantisation.is_double,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=skipped,
        )
        return config, options
    own = copy.deepcopy(config)
    own.quantization_config = {**_told(own), "llm_int8_skip_modules": skipped}
    return own, options


def take_over_(model: PreTrainedModel, source: str, computes_in: torch.dtype) -> None:
    """Put our layers in the place of bitsandbytes', with what these store.

    Raises
    ------
    UnsupportedModelError
        If one of them stores nothing quantised.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    for path, module in list(model.named_modules()):
        if isinstance(module, Linear4bit):
            stored = _of_4_bits(module)
        elif isinstance(module, Linear8bitLt):
            stored = _of_8_bits(module)
        else:
            continue
        if stored is None:
            raise UnsupportedModelError(
                f"the config.json of {source!r} says that bitsandbytes has quantised it, and its "
                f"{path}.weight is not: a complete checkpoint is wanted"
            )
        state = getattr(module.weight, "quant_state", None)
        ours = QuantisedLinear(
            module.out_features,
            module.in_features,
            kind="int8" if state is None else state.quant_type,
            stored=stored,
            bias=module.bias,
            computes_in=computes_in,
            block_size=BLOCK_SIZE if state is None else state.blocksize,
        )
        model.set_submodule(path, ours)
    for mark in _MARKS:
        if hasattr(model, mark):
            setattr(model, mark, False)
    # Else transformers would not let the model be moved, and PEFT look for bitsandbytes' layers.
    vars(model).pop("hf_quantizer", None)


def _of_4_bits(module: nn.Module) -> dict[str, Tensor] | None:
    weight: Any = module.weight
    state = getattr(weight, "quant_state", None)
    if state is None:
        return None
    stored = {"weight": _plain(weight).view(torch.uint8), "scales": state.absmax}
    if state.nested:
        stored |= {
            "scale_scales": state.state2.absmax,
            # Shared by all layers: as buffers, they move one by one.
            "scale_codes": state.state2.code.clone(),
            "scale_offset": state.offset,
        }
    return stored


def _of_8_bits(module: nn.Module) -> dict[str, Tensor] | None:
    weight: Any = module.weight
    scales = getattr(weight, "SCB", None)
    if scales is None or weight.dtype != torch.int8:
        return None
    return {"weight": _plain(weight), "scales": scales}


def _plain(parameter: Tensor) -> Tensor:
    """The numbers as a tensor of no other class."""
    return parameter.detach().as_subclass(Tensor)


def _told(config: PretrainedConfig) -> Mapping[str, Any]:
    told = config.quantization_config
    return dict(told) if isinstance(told, Mapping) else dict(told.to_dict())
