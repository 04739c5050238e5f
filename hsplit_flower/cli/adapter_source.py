"""What an adapter is told to go with: its base, and how its inputs are put to it."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig

from ..adapters import LowRank, import_adapter
from ..adapters.peft_checkpoint import CONFIG_FILE, WEIGHTS_FILE
from ..client.goes_on_top import RUNS_ADAPTER, what_is_unsure
from ..data import PROMPT_STYLES
from ..errors import AdapterError, ConfigError
from ..settings import Chat, Model
from ..splitting import Checkpoint
from ..splitting.quantisation import numbers_text
from .adapted_model import load_adapted
from .known_run import KnownRun, read_known_run

_FINGERPRINT_LENGTH = 16

logger = logging.getLogger(__name__)


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
    personal
        Folder of a client's own adapter on top of it, if there is one.
    chat
        How the run that made it read conversations; None where no run is known, or it had none.
    """

    folder: Path
    base: Model
    prompt: str
    sequence_length: int | None
    personal: Path | None = None
    chat: Chat | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """The base's files."""
        return Checkpoint(source=self.base.name, revision=self.base.revision or None)

    def fingerprint(self) -> str:
        """A short text that is another for another adapter, or another one on top."""
        digest = hashlib.sha256()
        for folder in (self.folder, self.personal):
            if folder is not None:
                digest.update((folder / CONFIG_FILE).read_bytes())
                with (folder / WEIGHTS_FILE).open("rb") as file:
                    for piece in iter(lambda: file.read(2**20), b""):
                        digest.update(piece)
        return digest.hexdigest()[:_FINGERPRINT_LENGTH]

    def shown(self) -> dict[str, str]:
        """What model this is, as JSON has it."""
        return {
            "adapter": self.fingerprint(),
            "base": self.base.name,
            "revision": self.base.revision,
            "dtype": numbers_text(self.base.computes_in, self.base.quantised),
        }

    def load(self, device: str) -> Any:
        """The base with the adapter beside its weights, as PEFT puts it there.

        Raises
        ------
        UnsupportedModelError
            If there is no such base.
        AdapterError
            If the adapter does not fit it, or the client's own does not go on top of it.
        """
        if self.personal and (unsure := what_is_unsure(self.personal, self.folder)):
            logger.warning("%s", unsure)
        return load_adapted(self.base, device, adapter=self.folder, personal=self.personal)


def read_adapter_source(
    folder: Path, *, model: str | None, prompt: str | None, personal: Path | None = None
) -> AdapterSource:
    """The adapter of a folder, or of a run's folder, and a client's own on top, if one is named.

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
        personal=None if personal is None else adapter_folder(personal),
        chat=run.chat if run else None,
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


def adapter_folder(given: Path) -> Path:
    """The folder itself if it has an adapter, else the one in it.

    Raises
    ------
    AdapterError
        If there is none either.
    """
    folder = given if (given / CONFIG_FILE).is_file() else given / RUNS_ADAPTER
    if not (folder / CONFIG_FILE).is_file():
        raise AdapterError(
            f"{given} has no {CONFIG_FILE}, and no folder {RUNS_ADAPTER!r} with one: the folder of "
            "a PEFT adapter or of a run that has written one is wanted"
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
