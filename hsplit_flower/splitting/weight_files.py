"""Which files hold a model's weights, where both layouts and old indices may lie in one folder.

What transformers would load is what is loaded: the file that the configuration names, else the
single one, else the shards of the index. Saving a model in one file where it lay in shards leaves
their index behind, and that is not looked at then.
"""

import json
from collections.abc import Callable
from pathlib import Path

from ..errors import UnsupportedModelError
from .model_name import CONFIG_FILE, INDEX_FILE, SINGLE_FILE

Fetch = Callable[[str], Path | None]
"""Gives a file of the model by its name, None where there is none."""

WEIGHTS_KEY = "transformers_weights"
"""Of a configuration: the file in which the weights are, where it has not the usual name."""
INDEX_ENDING = ".safetensors.index.json"
LARGE_FILE_POINTER = b"version https://git-lfs"


def weight_files(source: str, fetch: Fetch) -> dict[str, str | None]:
    """Which file holds each tensor; ``{file: None}`` when one file holds them all.

    A file that cannot be had is no reason not to look for the others: offline, the one layout may
    be in the cache, and nothing said there of the other.

    Raises
    ------
    UnsupportedModelError
        If an index cannot be read, or the hub was not reached and the cache has no weights.
    """
    failure: UnsupportedModelError | None = None
    names = _names(fetch)
    for name in names:
        try:
            path = fetch(name)
        except UnsupportedModelError as error:
            failure = failure or error
            continue
        if path is not None:
            return _listed(path, name, source) if name.endswith(INDEX_ENDING) else {name: None}
    if failure is not None:
        raise failure
    raise missing_file(source, names[0])


def missing_file(source: str, name: str) -> UnsupportedModelError:
    """The error for a model without a file of weights that it should have."""
    if name == SINGLE_FILE:
        return UnsupportedModelError(
            f"{source!r} has no {name} and no {INDEX_FILE}: safetensors weights are wanted, pickle "
            "files (.bin, .pt) are refused because loading them can run code; convert them with "
            "model.save_pretrained(folder)"
        )
    return UnsupportedModelError(
        f"{source!r} has no {name}, where its index or its {CONFIG_FILE} says that weights are: "
        "the checkpoint is not complete; fetch or copy it again, with all its shards"
    )


def broken_file(source: str, path: Path, reason: str) -> UnsupportedModelError:
    """The error for a file of weights that is none."""
    with path.open("rb") as file:
        is_pointer = file.read(len(LARGE_FILE_POINTER)) == LARGE_FILE_POINTER
    if is_pointer:
        reason = "it is what git keeps in its place; run `git lfs pull` in its folder"
    return UnsupportedModelError(
        f"{path.name} of {source!r} cannot be read as safetensors: {reason}"
    )


def _names(fetch: Fetch) -> tuple[str, ...]:
    """Where weights may be, first that which is taken first."""
    config = fetch(CONFIG_FILE)
    try:
        named = json.loads(config.read_bytes()).get(WEIGHTS_KEY) if config else None
    except (AttributeError, ValueError):
        # Whoever reads the configuration says what is wrong with it.
        named = None
    # A file that is elsewhere is none of the model's.
    if isinstance(named, str) and Path(named).name == named:
        return (named,)
    return SINGLE_FILE, INDEX_FILE


def _listed(path: Path, name: str, source: str) -> dict[str, str | None]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedModelError(
            f"{name} of {source!r} cannot be read as an index of shards: {error!r}"
        ) from error
