"""A Hugging Face causal decoder on the meta device: names and shapes without memory."""

import copy
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
)

from ..errors import UnsupportedModelError
from .rotary import fix_frequencies


def causal_class(config: PretrainedConfig) -> type[PreTrainedModel]:
    """The causal language model class of a configuration, as ``AutoModelForCausalLM`` picks it.

    Where that has none for a model of text and images, or wants the configuration of its text model
    alone, the class that checkpoints of both are of: it runs on text, too.

    Raises
    ------
    UnsupportedModelError
        If transformers has none: an encoder, an encoder-decoder, or remote code.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise unsupported(config, "it is an encoder-decoder; a decoder-only model is wanted")
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if found is None or found.config_class is not type(config):
        found = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING.get(type(config), found)
    if found is None:
        raise unsupported(
            config, "transformers has no causal language model for it (remote code is not run)"
        )
    family: type[PreTrainedModel] = found
    return family


def build_empty(config: PretrainedConfig) -> PreTrainedModel:
    """The whole model on the meta device: names and shapes without memory.

    Eager attention, because the other kinds look into the mask's values to choose a kernel.
    """
    family = causal_class(config)
    try:
        with torch.device("meta"):
            model = family._from_config(
                copy.deepcopy(config), attn_implementation="eager", dtype=torch.bfloat16
            )
    except Exception as error:
        raise unsupported(
            config, f"{family.__name__} cannot be built from its configuration ({error})"
        ) from error
    fix_frequencies(model)
    return model.eval()  # type: ignore[no-any-return]


class MasksAreFull(TorchDispatchMode):
    """Answers yes where a model without memory asks whether something of its mask is so.

    Hybrids of linear and full attention look whether all tokens are there, to leave out the mask.
    In a run of an empty model they are. What is asked of numbers has no answer.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            (asked,) = args
            if asked.is_meta and asked.dtype is torch.bool:
                return True
        return func(*args, **(kwargs or {}))


def unsupported(config: PretrainedConfig, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"a model of type {config.model_type!r} cannot be split: {reason}")
