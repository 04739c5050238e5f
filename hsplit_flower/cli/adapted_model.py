"""A whole base with adapters beside its weights, as transformers and PEFT load them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging as transformers_logging

from ..errors import AdapterError
from ..settings import Model
from ..splitting import Checkpoint, floating_dtype, locate
from ..splitting.quantisation import quantisation_of
from ..splitting.quantised_loading import loading_options, take_over_

GLOBAL, PERSONAL = "default", "personal"
"""What PEFT calls the adapter of a run, and a client's own on top of it."""

_MOST_CHARACTERS = 300


def load_adapted(
    base: Model, device: str, *, adapter: Path | None = None, personal: Path | None = None
) -> Any:
    """A base, ready to be run: with an adapter, if there is one, and another one on top.

    Each layer adds what both adapters say of it: ``W x + s B A x + s' B' A' x``.

    Parameters
    ----------
    base
        As a run has it, quantised if it says so.
    device
        Where it runs.
    adapter, personal
        Folders of PEFT adapters; the second is a client's own.

    Raises
    ------
    UnsupportedModelError
        If there is no such base.
    AdapterError
        If an adapter does not fit it.
    """
    with _quiet_loading():
        model = _load_base(base, device)
        if adapter is not None:
            with _told_if_it_does_not_fit(adapter, base.name):
                model = PeftModel.from_pretrained(model, str(adapter), adapter_name=GLOBAL)
        if adapter is not None and personal is not None:
            with _told_if_it_does_not_fit(personal, base.name):
                _put_on_top(model, personal)
    return model.to(device).eval()


def _put_on_top(model: Any, personal: Path) -> None:
    found = model.load_adapter(str(personal), adapter_name=PERSONAL)
    if found.missing_keys:
        raise KeyError(f"missing adapter keys {found.missing_keys}")
    model.base_model.set_adapter([GLOBAL, PERSONAL], inference_mode=True)


def _load_base(model: Model, device: str) -> Any:
    checkpoint = Checkpoint(source=model.name, revision=model.revision or None)
    config, dtype = checkpoint.config(), floating_dtype(model.computes_in)
    quantisation = quantisation_of(config, model.quantised, source=model.name)
    more: dict[str, Any] = {}
    if quantisation is not None:
        config, more = loading_options(config, quantisation, dtype=dtype, device=device)
    base = AutoModelForCausalLM.from_pretrained(
        locate(model.name),
        config=config,
        revision=checkpoint.revision,
        dtype=dtype,
        attn_implementation=model.attention or None,
        use_safetensors=True,
        trust_remote_code=False,
        **more,
    )
    if quantisation is not None:
        take_over_(base, model.name, dtype)
    # What a model's folder says of decoding would fill what a caller leaves open.
    base.generation_config = GenerationConfig()
    return base


@contextmanager
def _told_if_it_does_not_fit(folder: Path, base: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, KeyError, UserWarning) as error:
        # PEFT tells every tensor that does not fit, on a line of its own.
        told = " ".join(str(error).split())[:_MOST_CHARACTERS]
        raise AdapterError(
            f"the adapter in {folder} does not fit the base {base!r}; give the base that it was "
            f"trained on as --model ({told})"
        ) from error


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Without transformers' bar and its warning of what PEFT asks; what is missing is an error."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            warnings.filterwarnings("error", ".*missing adapter keys", UserWarning)
            # GPT-2's transposed matrices are not transposed any more where they are quantised.
            warnings.filterwarnings("ignore", ".*fan_in_fan_out is set to True", UserWarning)
            yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
