"""How a base is quantised: by a setting while it is loaded, or in its files already.

Nothing here needs bitsandbytes: what a quantised base takes can be planned without it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from ..errors import ConfigError, UnsupportedModelError
from .quantised_linear import UnknownQuantisedLinear

Kind = Literal["nf4", "fp4", "int8"]
KINDS: Final[tuple[Kind, ...]] = ("nf4", "int8")
"""What a base can be quantised to while it is loaded; its files may have ``fp4``, too."""

_BITSANDBYTES: Final = "bitsandbytes"
_IN: Final = " in "
# Where a configuration says so; the older key is that of compressed-tensors.
_CONFIG_KEYS: Final = ("quantization_config", "compression_config")


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """How the matrices of a base's linear layers are quantised.

    Attributes
    ----------
    kind
        Of 4 bits in blocks of 64 numbers with a scale each, or of 8 with a scale a row.
    is_double
        Whether the scales of 4-bit blocks are quantised themselves.
    skipped
        Which modules are not; None leaves that to transformers, whose choice is head and embedding.
    is_stored
        Whether the checkpoint has it so.
    """

    kind: Kind
    is_double: bool = True
    skipped: tuple[str, ...] | None = None
    is_stored: bool = False


def quantisation_of(
    config: PretrainedConfig, asked: str = "", *, source: str = ""
) -> Quantisation | None:
    """How a base is quantised once it is loaded; None where it is not.

    Parameters
    ----------
    config
        The model's.
    asked
        A kind to quantise to; empty takes the base as its files have it.
    source
        What the model is called, for errors.

    Raises
    ------
    UnsupportedModelError
        If its files are quantised otherwise than by bitsandbytes, or to another kind than asked.
    ConfigError
        If there is no such kind.
    """
    name = source or f"a {config.model_type}"
    if asked and asked not in KINDS:
        raise ConfigError(f"a base cannot be quantised to {asked!r}: one of {KINDS} is wanted")
    told = _told(config)
    if told is None:
        return Quantisation(kind=asked) if asked in KINDS else None
    stored = _stored(told, name)
    if asked and stored.kind != asked:
        raise UnsupportedModelError(
            f"{name!r} is quantised to {stored.kind} already, and {asked} is asked for: take it as "
            'it is, with dtype = "float32" or the type to compute in, or name the model that it '
            "was made of"
        )
    return stored


def kind_of(quantisation: Quantisation | None) -> str:
    """``nf4``, ``fp4`` or ``int8``; empty for none."""
    return "" if quantisation is None else quantisation.kind


def numbers_text(computes_in: str, quantised: str) -> str:
    """What a base computes with, as it is told: ``float32``, or ``nf4 in bfloat16``."""
    return f"{quantised}{_IN}{computes_in}" if quantised else computes_in


def told_numbers(text: str) -> tuple[str, str]:
    """What `numbers_text` was made of: the type computed in, and what it is quantised to."""
    quantised, _, computes_in = text.rpartition(_IN)
    return computes_in, quantised


def skipped_modules(model: PreTrainedModel, quantisation: Quantisation) -> list[str]:
    """The patterns of what is not quantised, found on the whole model.

    Transformers looks at the model that it loads: of a half it would find others.
    """
    skipped = None if quantisation.skipped is None else list(quantisation.skipped)
    kept = model._keep_in_fp32_modules
    return sorted(
        HfQuantizer.get_modules_to_not_convert(model, skipped, None if kept is None else list(kept))
    )


def quantise_empty_(
    model: PreTrainedModel,
    quantisation: Quantisation,
    computes_in: torch.dtype,
    *,
    skipped: list[str],
) -> None:
    """Make a model on the meta device what it is when it is loaded quantised, as to its bytes.

    ``skipped`` are the `skipped_modules` of the whole model.
    """
    for path, module in list(_converted(model, skipped)):
        rows, columns = module.weight.shape
        if isinstance(module, Conv1D):
            rows, columns = columns, rows
        empty = UnknownQuantisedLinear.of_shape(
            rows,
            columns,
            kind=quantisation.kind,
            is_double=quantisation.is_double,
            bias=module.bias,
            computes_in=computes_in,
        )
        model.set_submodule(path, empty)


def _converted(
    model: PreTrainedModel, skipped: list[str]
) -> Iterator[tuple[str, nn.Linear | Conv1D]]:
    """The layers that transformers would put bitsandbytes' in the place of."""
    for path, module in model.named_modules():
        is_linear = type(module) is nn.Linear or isinstance(module, Conv1D)
        if is_linear and should_convert_module(path, skipped):
            yield path, module


def _told(config: PretrainedConfig) -> Mapping[str, Any] | None:
    """What a configuration says of how its checkpoint is quantised."""
    for one in (config, config.get_text_config()):
        for key in _CONFIG_KEYS:
            told = getattr(one, key, None)
            if told:
                return dict(told) if isinstance(told, Mapping) else dict(told.to_dict())
    return None


def _stored(told: Mapping[str, Any], name: str) -> Quantisation:
    """The quantisation that a checkpoint says it has, if it can be loaded."""
    method = str(told.get("quant_method") or _method_of_old(told))
    if method != _BITSANDBYTES:
        raise UnsupportedModelError(
            f"{name!r} is quantised by {method}, which cannot be split: take the model that it was "
            'made of, with dtype = "nf4" or "int8", or a checkpoint quantised by bitsandbytes'
        )
    skipped = told.get("llm_int8_skip_modules")
    kept = None if skipped is None else tuple(str(each) for each in skipped)
    if told.get("load_in_4bit") or told.get("_load_in_4bit"):
        kind = str(told.get("bnb_4bit_quant_type", "fp4"))
        if kind not in ("nf4", "fp4"):
            raise UnsupportedModelError(
                f"{name!r} is quantised by bitsandbytes to {kind!r}: nf4, fp4 or int8 is wanted"
            )
        return Quantisation(
            kind="nf4" if kind == "nf4" else "fp4",
            is_double=bool(told.get("bnb_4bit_use_double_quant", False)),
            skipped=kept,
            is_stored=True,
        )
    if told.get("llm_int8_has_fp16_weight"):
        raise UnsupportedModelError(
            f"{name!r} keeps float16 weights beside its 8-bit ones (llm_int8_has_fp16_weight): "
            'take the model that it was made of, with dtype = "int8"'
        )
    return Quantisation(kind="int8", skipped=kept, is_stored=True)


def _method_of_old(told: Mapping[str, Any]) -> str:
    """Checkpoints of bitsandbytes were written without a method's name once."""
    is_bitsandbytes = any(told.get(key) for key in ("load_in_4bit", "load_in_8bit"))
    return _BITSANDBYTES if is_bitsandbytes else "a method without a name"
