"""A run as its folder holds it: its settings, its history, and the state after its last round."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..methods import HSPLIT_LORA, METHODS, Method
from ..reports.history import RunHistory, read_history
from ..settings import Chat, Model, Settings, Training
from ..settings.reading import keys_of, read
from .checkpoint import read_state
from .state import RunState

STATE_FILE = "state.safetensors"
"""What a run's folder calls the state after its last completed round."""
CONFIG_FILE = "config.json"


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """What a run left behind.

    Attributes
    ----------
    folder
        Where.
    config
        All that it was set to, an app's own settings included.
    model, training
        Its base, and how it trained.
    method
        Its row.
    history
        What its metrics add up to.
    state
        After its last completed round.
    """

    folder: Path
    config: Mapping[str, Any]
    model: Model
    training: Training
    method: Method
    history: RunHistory
    state: RunState


def read_past_run(folder: str | Path) -> PastRun:
    """The run that a folder holds.

    Raises
    ------
    ConfigError
        If it holds none, or one of which no round was completed.
    """
    folder = Path(folder)
    config = _read_config(folder)
    model, training = model_and_training(config, folder / CONFIG_FILE)
    history = read_history(folder)
    if not (folder / STATE_FILE).is_file():
        reason = "no round was completed there" if not history.num_completed else "it is gone"
        raise ConfigError(
            f"{folder} has no {STATE_FILE}, which is written after every completed round: {reason}"
        )
    return PastRun(
        folder=folder,
        config=config,
        model=model,
        training=training,
        method=_method(config, folder),
        history=history,
        state=read_state(folder / STATE_FILE),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config["model"]["name"], str):
            raise TypeError("model.name is no text")
        return config
    except OSError as error:
        raise ConfigError(f"{folder} is no folder of a run: it has no {CONFIG_FILE}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is none of a run: the settings of one with the base's model.name are wanted, "
            f"got {error!r}"
        ) from error


def model_and_training(config: Mapping[str, Any], path: Path) -> tuple[Model, Training]:
    """The groups that every run has; what this version no longer knows is left out.

    Parameters
    ----------
    config
        What a run was set to.
    path
        Where that stands.

    Raises
    ------
    ConfigError
        If a group is none, or a value of it is wrong.
    """
    groups = _groups(config, {"model": Model, "training": Training}, path)
    model, training = groups["model"], groups["training"]
    assert isinstance(model, Model) and isinstance(training, Training)
    return model, training


def chat_of(config: Mapping[str, Any], path: Path) -> Chat | None:
    """How a run read conversations; None of one that had none. See `model_and_training`."""
    if "chat" not in config:
        return None
    chat = _groups(config, {"chat": Chat}, path)["chat"]
    assert isinstance(chat, Chat)
    return chat


def _groups(
    config: Mapping[str, Any], wanted: Mapping[str, type[Settings]], path: Path
) -> dict[str, Settings]:
    known = keys_of(wanted)
    for name in wanted:
        if not isinstance(config.get(name) or {}, dict):
            raise ConfigError(
                f"{path} has {name} = {config[name]!r}: a table of settings is wanted"
            )
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for name in wanted
        for own, value in (config.get(name) or {}).items()
        if (key := f"{name}.{own}") in known
    }
    return read(wanted, values, subject=str(path))


def _method(config: Mapping[str, Any], folder: Path) -> Method:
    """The row that an app's ``strategy`` names; runs that do not say it are of the first."""
    name = config.get("strategy") or HSPLIT_LORA.name
    if not isinstance(name, str) or name not in METHODS:
        raise ConfigError(
            f"{folder / CONFIG_FILE} has strategy = {name!r}: one of {', '.join(METHODS)} is wanted"
        )
    return METHODS[name]
