"""Loading one half of a checkpoint, and nothing of the other.

Transformers' own loader does the reading (names, conversions, dtype, tied weights); it is given a
model that has only the half's modules and only the tensors that they need.
"""

import copy
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ..errors import UnsupportedModelError
from .architecture import Architecture
from .checkpoint import Checkpoint, Unread
from .configuration_memo import once_a_configuration
from .empty_model import build_empty
from .half import Half, absent_modules, half_class
from .parts import Parts
from .quantisation import (
    Quantisation,
    kind_of,
    quantisation_of,
    quantise_empty_,
    skipped_modules,
)
from .quantised_linear import fill_with_noise_
from .quantised_loading import loading_options, take_over_
from .reading import read_architecture

logger = logging.getLogger(__name__)


def load_half(
    source: str,
    parts: Parts,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    attention: str | None = None,
    quantised: str = "",
) -> Half:
    """Load the half that ``parts`` names from a folder or a hub id.

    Memory grows by the half's own bytes; only the shard files that hold its tensors are opened or
    downloaded.

    Parameters
    ----------
    source
        A local folder, or the id of a model on the hub.
    parts
        What to load.
    revision
        A commit, tag or branch of the hub model.
    dtype
        What the weights are turned into; of a quantised base, those that are not quantised.
    device
        Where they go.
    attention
        Attention implementation (``"eager"``, ``"sdpa"``, …); transformers' choice by default.
    quantised
        ``"nf4"`` or ``"int8"`` quantises linear layers while they are read; empty takes them as
        they are stored.

    Raises
    ------
    UnsupportedModelError
        If the model cannot be split, or has no safetensors weights, or lacks some.
    ConfigError
        If what quantises is not installed.
    """
    checkpoint = Checkpoint(source=source, revision=revision)
    config = checkpoint.config()
    quantisation = quantisation_of(config, quantised, source=source)
    architecture = read_architecture(config)
    how = _Reading(dtype=dtype, device=device, attention=attention, quantisation=quantisation)
    return _read(checkpoint, config, architecture, parts, how)


def build_half(
    config: PretrainedConfig,
    parts: Parts,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    quantised: str = "",
) -> Half:
    """A half with random weights, for measurements at sizes that nobody wants to download."""
    architecture = read_architecture(config)
    quantisation = quantisation_of(config, quantised)
    model = _empty_half(config, architecture, parts, dtype, quantisation).to_empty(device=device)
    if quantisation is not None:
        fill_with_noise_(model)
    model.init_weights()
    return Half(freeze(model), architecture, parts, quantised=kind_of(quantisation))


def half_bytes(
    source: str,
    parts: Parts,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    quantised: str = "",
) -> int:
    """What the tensors of a half take, from the model's configuration alone.

    Parameters are those of `load_half`, as are the errors about the configuration.
    """
    config = Checkpoint(source=source, revision=revision).config()
    return _half_bytes(config, parts, dtype, quantised, source)


def freeze(model: PreTrainedModel) -> PreTrainedModel:
    """The base model is never trained: only its adapters are."""
    return model.requires_grad_(False)


def belongs_to(tensor: str, modules: frozenset[str]) -> bool:
    """Whether a checkpoint's tensor belongs to one of the modules.

    A checkpoint may leave out the base model's prefix (GPT-2's hub files say ``h.0.…`` for
    ``transformer.h.0.…``), so a module is found by any tail of its path that keeps its block
    number, or its own name.
    """
    return any(_tail_pattern(module).match(tensor) for module in modules)


def _empty_half(
    config: PretrainedConfig,
    architecture: Architecture,
    parts: Parts,
    dtype: torch.dtype,
    quantisation: Quantisation | None,
) -> PreTrainedModel:
    """A half on the meta device, quantised if it is to be: names, shapes and types."""
    with torch.device("meta"):
        model: PreTrainedModel = half_class(config, architecture, parts)._from_config(
            copy.deepcopy(config), dtype=dtype
        )
    if quantisation is not None:
        skipped = skipped_modules(build_empty(config), quantisation)
        quantise_empty_(model, quantisation, dtype, skipped=skipped)
    return model


@once_a_configuration
def _half_bytes(
    config: PretrainedConfig, parts: Parts, dtype: torch.dtype, quantised: str, source: str
) -> int:
    quantisation = quantisation_of(config, quantised, source=source)
    model = _empty_half(config, read_architecture(config), parts, dtype, quantisation)
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What tensors are turned into, and where they go."""

    dtype: torch.dtype
    device: torch.device | str
    attention: str | None
    quantisation: Quantisation | None


def _read(
    checkpoint: Checkpoint,
    config: PretrainedConfig,
    architecture: Architecture,
    parts: Parts,
    how: _Reading,
) -> Half:
    """The half, with the tensors that it needs, if all of them are there."""
    absent = absent_modules(architecture, parts)
    half = half_class(config, architecture, parts)
    options: dict[str, Any] = {"dtype": how.dtype, "attn_implementation": how.attention}
    if how.quantisation is not None:
        config, more = loading_options(config, how.quantisation, dtype=how.dtype, device=how.device)
        options |= more
    with checkpoint.open(lambda name: not belongs_to(name, absent), how.dtype) as tensors, _quiet():
        model, report = _read_into(half, config, tensors, options)
    _check_complete(report, checkpoint.source, config)
    if architecture.towers:
        logger.warning(
            "%s is used for text: %s are left out of both halves, and are not loaded",
            checkpoint.source,
            ", ".join(architecture.towers),
        )
    if how.quantisation is not None:
        take_over_(model, checkpoint.source, how.dtype)
    return Half(
        freeze(model.to(how.device)),
        architecture,
        parts,
        quantised=kind_of(how.quantisation),
        checkpoint=checkpoint,
    )


def _read_into(
    half: type[PreTrainedModel],
    config: PretrainedConfig,
    tensors: Mapping[str, Unread],
    options: Mapping[str, Any],
) -> tuple[Any, Mapping[str, Any]]:
    """The half with these tensors, and the loader's report."""
    loaded: Any = half.from_pretrained(
        None,
        config=config,
        state_dict=tensors,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # that is, report them: refused by `_check_complete`
        local_files_only=True,
        **options,
    )
    model, report = loaded
    return model, report


def _check_complete(report: Mapping[str, Any], source: str, config: PretrainedConfig) -> None:
    """Refuse a half whose tensors were not all there, or had other shapes."""
    if missing := sorted(report["missing_keys"]):
        raise UnsupportedModelError(
            f"the checkpoint {source!r} lacks {len(missing)} tensors of this half, "
            f"for instance {missing[:3]}: a complete checkpoint of a {config.model_type} is wanted"
        )
    if report["mismatched_keys"]:
        raise UnsupportedModelError(
            f"tensors of {source!r} have other shapes than its config.json says: "
            f"{sorted(report['mismatched_keys'])[:3]}"
        )


def _tail_pattern(module: str) -> "re.Pattern[str]":
    first, *rest = module.split(".")
    escaped = [re.escape(part) for part in rest]
    if not rest:
        return re.compile(rf"{re.escape(first)}\.")
    tail = r"\.".join(escaped)
    return re.compile(rf"(?:{re.escape(first)}\.)?{tail}\.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the loader's bar and its report: that tensors are left out is the point here."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
