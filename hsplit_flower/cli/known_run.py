"""What a run's folder says of its model, its training and its rows, however far it came."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..server.past_run import CONFIG_FILE, chat_of, model_and_training
from ..settings import Chat, Model, Training


@dataclass(frozen=True, kw_only=True)
class KnownRun:
    """Of a run: its base, how it trained, and its prompt format, or how it read conversations."""

    model: Model
    training: Training
    prompt: str | None
    chat: Chat | None


def read_known_run(folder: Path) -> KnownRun | None:
    """The settings of the run that this is the folder of; None if it is none of a run.

    Raises
    ------
    ConfigError
        If they cannot be read.
    """
    path = folder / CONFIG_FILE
    config = _config(path) if path.is_file() else {}
    # A model's folder has a file of this name, too.
    if not all(isinstance(config.get(name), Mapping) for name in ("model", "training")):
        return None
    model, training = model_and_training(config, path)
    return KnownRun(
        model=model,
        training=training,
        prompt=config.get("prompt") or None,
        chat=chat_of(config, path),
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}; the settings of a run are wanted there, or no file"
        ) from error
