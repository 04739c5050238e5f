"""What an adapter is told to go with: its base, and how its inputs are put to it."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging as transformers_logging

from ..adapters import LowRank, import_adapter
from ..adapters.peft_checkpoint import CONFIG_FILE, WEIGHTS_FILE
from ..data import PROMPT_STYLES
from ..errors import AdapterError, ConfigError
from ..settings import Model
from ..splitting import Checkpoint, floating_dtype, locate
from ..splitting.quantisation import quantisation_of
from ..splitting.quantised_loading import loading_options, take_over_
from .known_run import KnownRun, read_known_run

ADAPTER = "adapter"
_FINGERPRINT_LENGTH = 16
_MOST_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class AdapterSource:
    """An adapter's folder and what is known of it.

    Attributes
    ----------
    folder
        With ``adapter_config.json`` and the weights.
    base
        The model it is put on.
    prompt
        The prompt format of its inputs.
    sequence_length
        The longest example of the run that made it; None where no run is known.
    """

    folder: Path
    base: Model
    prompt: str
    sequence_length: int | None

    @property
    def checkpoint(self) -> Checkpoint:
        """The base's files."""
        return Checkpoint(source=self.base.name, revision=self.base.revision or None)

    def fingerprint(self) -> str:
        """A short text that is another for another adapter."""
        digest = hashlib.sha256((self.folder / CONFIG_FILE).read_bytes())
        with (self.folder / WEIGHTS_FILE).open("rb") as file:
            for piece in iter(lambda: file.read(2**20), b""):
                digest.update(piece)
        return digest.hexdigest()[:_FINGERPRINT_LENGTH]

    def load(self, device: str) -> Any:
        """The base with the adapter beside its weights, as PEFT puts it there.

        Raises
        ------
        UnsupportedModelError
            If there is no such base.
        AdapterError
            If the adapter does not fit it.
        """
        with quiet_loading():
            model = self._load(device)
        return model.to(device).eval()

    def _load(self, device: str) -> Any:
        base = load_base(self.base, device)
        try:
            return PeftModel.from_pretrained(base, str(self.folder))
        except (RuntimeError, ValueError, KeyError, UserWarning) as error:
            # PEFT tells every tensor that does not fit, on a line of its own.
            told = " ".join(str(error).split())[:_MOST_CHARACTERS]
            raise AdapterError(
                f"the adapter in {self.folder} does not fit the base {self.base.name!r}; give the "
                f"base that it was trained on as --model ({told})"
            ) from error


def load_base(model: Model, device: str) -> Any:
    """A base as a run has it, quantised if it says so.

    Raises
    ------
    UnsupportedModelError
        If there is no such base.
    """
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


def read_adapter_source(folder: Path, *, model: str | None, prompt: str | None) -> AdapterSource:
    """The adapter of a folder, or of a run's folder.

    What is given comes before what a run says, and that before what the adapter says. An adapter
    that lies in its run's folder is known to be that run's.

    Raises
    ------
    AdapterError
        If there is no adapter.
    ConfigError
        If no base is known, or no such prompt format.
    """
    if prompt is not None and prompt not in PROMPT_STYLES:
        raise ConfigError(f"--prompt is {prompt!r}: one of {', '.join(PROMPT_STYLES)} is wanted")
    own = adapter_folder(folder)
    run = read_known_run(own.resolve().parent)
    return AdapterSource(
        folder=own,
        base=_base(own, run, model),
        prompt=prompt or (run.prompt if run else None) or next(iter(PROMPT_STYLES)),
        sequence_length=run.training.sequence_length if run else None,
    )


def read_updates(folder: str) -> dict[str, LowRank]:
    """What the adapter of a folder, or of a run's folder, adds to the base; nothing without one.

    Raises
    ------
    AdapterError
        If there is no adapter, or it is more than plain LoRA.
    """
    return import_adapter(adapter_folder(Path(folder))) if folder else {}


def check_device(name: str | None) -> str:
    """The device of this name, or the one that there is.

    Raises
    ------
    ConfigError
        If torch cannot use it.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        told = str(error).splitlines()[0]
        raise ConfigError(
            f"--device is {name!r}: one that torch can use, as cpu, is wanted ({told})"
        ) from error
    return name


@contextmanager
def quiet_loading() -> Iterator[None]:
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


def adapter_folder(given: Path) -> Path:
    """The folder itself if it has an adapter, else the one in it.

    Raises
    ------
    AdapterError
        If there is none either.
    """
    folder = given if (given / CONFIG_FILE).is_file() else given / ADAPTER
    if not (folder / CONFIG_FILE).is_file():
        raise AdapterError(
            f"{given} has no {CONFIG_FILE}, and no folder {ADAPTER!r} with one: the folder of a "
            "PEFT adapter or of a run that has written one is wanted"
        )
    if not (folder / WEIGHTS_FILE).is_file():
        raise AdapterError(
            f"{folder} has no {WEIGHTS_FILE} (pickle files are refused); save the adapter again "
            "as safetensors"
        )
    return folder


def _base(folder: Path, run: KnownRun | None, model: str | None) -> Model:
    if run is not None:
        return run.model if model is None else run.model.replace(name=model, revision="")
    if model is not None:
        return Model(name=model)
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AdapterError(f"{folder} has no readable {CONFIG_FILE}: {error}") from error
    if not config.base_model_name_or_path:
        raise ConfigError(f"{folder / CONFIG_FILE} names no base: say which with --model")
    return Model(name=config.base_model_name_or_path, revision=config.revision or "")
