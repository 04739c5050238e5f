"""The files that stand beside a checkpoint's weights: configuration, tokenizer, licence.

What is copied of a folder is listed here, because others lie there too: an optimizer's state,
pickle files, code. The card is not copied: it describes the weights that it came with.
"""

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from ..errors import UnsupportedModelError
from .checkpoint import Checkpoint
from .model_name import CONFIG_FILE
from .weight_files import WEIGHTS_KEY

COPIED = (
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.tiktoken",
    "LICENSE*",
    "NOTICE*",
    "USE_POLIC*",
)
# These are about weights: the index is written anew, an adapter would be loaded on top.
LEFT = ("*.index.json", "adapter_config.json", "trainer_state.json")
DTYPE_KEYS = ("dtype", "torch_dtype")


def copy_companions(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype | None) -> None:
    """Copy what a model needs beside its weights.

    Parameters
    ----------
    checkpoint
        Whose.
    folder
        Where to; it exists.
    dtype
        What ``config.json`` says that the weights are; None leaves it as it is.

    Raises
    ------
    UnsupportedModelError
        If the hub has them and cannot be asked.
    """
    for file in sorted(_folder_of(checkpoint).iterdir()):
        if file.is_file() and is_companion(file.name):
            shutil.copyfile(file, folder / file.name)
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    # The weights that are written lie where they usually do.
    changed = {key: value for key, value in config.items() if key != WEIGHTS_KEY}
    if dtype is not None:
        changed = _with_dtype(changed, str(dtype).removeprefix("torch."))
    if changed != config:
        path.write_text(json.dumps(changed, indent=2) + "\n", encoding="utf-8")


def is_companion(name: str) -> bool:
    """Whether a file of this name is copied."""
    return any(fnmatch(name, each) for each in COPIED) and not any(
        fnmatch(name, each) for each in LEFT
    )


def _folder_of(checkpoint: Checkpoint) -> Path:
    if checkpoint.is_local:
        return Path(checkpoint.location)
    try:
        found = snapshot_download(
            checkpoint.location,
            revision=checkpoint.revision,
            allow_patterns=list(COPIED),
            ignore_patterns=list(LEFT),
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise UnsupportedModelError(
            f"the files beside the weights of {checkpoint.source!r} (tokenizer, configuration) are "
            f"not all in the local cache, and the hub does not give them: {error}"
        ) from error
    return Path(found)


def _with_dtype(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A configuration, and those within it, of numbers of another type."""
    changed = {
        key: _with_dtype(value, name) if _says_dtype(value) else value
        for key, value in config.items()
        if key not in DTYPE_KEYS
    }
    old = next((key for key in DTYPE_KEYS if key in config), DTYPE_KEYS[0])
    return {**changed, old: name}


def _says_dtype(value: Any) -> bool:
    return isinstance(value, dict) and any(key in value for key in DTYPE_KEYS)
