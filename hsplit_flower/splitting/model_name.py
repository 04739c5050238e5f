"""What a model's name stands for: a built-in base, a folder, or a model on the hub.

What it cannot stand for is said before anything is read, and the hub is asked once, not again and
again, whether it has what nobody has fetched yet.
"""

import difflib
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import UnsupportedModelError

CONFIG_FILE = "config.json"
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

BUILT_IN = {"llama-tiny": Path(__file__).parents[1] / "bases" / "llama-tiny"}

HUB_SCHEME = "hf://"
HUB_PATIENCE_SECONDS = 10.0
# A folder with more files than this is told by the first ones.
MOST_FILES_IN_A_MESSAGE = 5


def locate(model: str) -> str:
    """What to load for a model's name: a built-in base's folder, or the name as it is."""
    return str(BUILT_IN.get(model, model))


def no_model(model: str, reason: str) -> UnsupportedModelError:
    """The error for a name under which there is no model, with what a name may be."""
    ended = reason if reason.endswith("?") else f"{reason.rstrip('.')}."
    return UnsupportedModelError(
        f"no usable model configuration at {model!r}: {ended} A folder with {CONFIG_FILE} and "
        f"safetensors ({SINGLE_FILE}, or {INDEX_FILE} and its shards), the id of a model on the "
        f"hub (owner/name), or a built-in model ({', '.join(BUILT_IN)}) is wanted"
    )


def check_name(model: str) -> None:
    """Refuse a name that neither a folder nor the hub can have a model under.

    Raises
    ------
    UnsupportedModelError
        If it is a path and no folder with a configuration is there, or if it is nearly a built-in
        base's name.
    """
    if not model.strip():
        raise no_model(model, "the name is empty")
    path = Path(locate(model))
    if path.is_dir():
        if not (path / CONFIG_FILE).is_file():
            if (path / "snapshots").is_dir():
                raise no_model(
                    model,
                    f"the folder is a cache of the hub, {_content(path)}: give one of the "
                    "folders in its snapshots, or the model's id",
                )
            raise no_model(model, f"the folder has no {CONFIG_FILE}, {_content(path)}")
        return
    if path.is_file():
        raise no_model(model, "it is a file, and the folder that holds it is wanted")
    if model.startswith(HUB_SCHEME):
        name, _, revision = model.removeprefix(HUB_SCHEME).removeprefix("models/").partition("@")
        also = f" and model.revision = {revision!r}" if revision else ""
        raise no_model(model, f"for the hub's model, give model.name = {name!r}{also}")
    if _is_path(model):
        raise no_model(model, f"there is no folder {path.absolute()}")
    # Ids without an owner are a closed list of old models: none is a letter off one of ours.
    near = difflib.get_close_matches(model.lower(), BUILT_IN, cutoff=0.8)
    if near and "/" not in model:
        raise no_model(model, f"there is none, did you mean {near[0]!r}?")


def ask_hub(model: str, file: str, revision: str | None) -> None:
    """See that a model's file is in the local cache, or that the hub has it.

    Raises
    ------
    UnsupportedModelError
        If neither has it, or the hub cannot be asked.
    """
    try:
        if isinstance(try_to_load_from_cache(model, file, revision=revision), str):
            return
        url = hf_hub_url(model, file, revision=revision)
        get_hf_file_metadata(url, timeout=HUB_PATIENCE_SECONDS)
    except Exception as error:  # the hub's library lets its own libraries' errors through
        raise no_model(model, why_not(error, model)) from error


def known_revision(model: str, revision: str) -> str:
    """Which revision of a model this machine has, for what is written of it.

    Parameters
    ----------
    model
        Its name.
    revision
        What was asked for. Empty is the newest of a hub's model, which is another one tomorrow:
        then it is the commit that the local cache has, and empty for what is no model of the hub.
    """
    if revision or Path(locate(model)).is_dir():
        return revision
    try:
        found = try_to_load_from_cache(model, CONFIG_FILE)
    except HFValidationError:
        return ""
    return Path(found).parent.name if isinstance(found, str) else ""


def is_absent(error: Exception) -> bool:
    """Whether the hub has a model's other files, and said that it has not this one."""
    return isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)


def why_not(error: Exception, model: str) -> str:
    """Why the hub's library has no file of a model, and what to do, in our words."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        # It says that nothing was found, and why is in what it came from.
        error = error.__cause__
    if isinstance(error, OfflineModeIsEnabled):
        return "it is not in the local cache, and HF_HUB_OFFLINE forbids to ask the hub"
    if isinstance(error, HFValidationError):
        return "it is no folder, and the hub has no ids of this form"
    if isinstance(error, GatedRepoError):
        return (
            "the hub gives it only to who has accepted its terms and is logged in "
            f"({error.server_message or first_line(error)}): accept them at "
            f"{constants.ENDPOINT}/{model}, then run `hf auth login`, or set HF_TOKEN, on each "
            "machine that loads it"
        )
    if isinstance(error, RevisionNotFoundError):
        return "the hub's model has no such revision"
    if is_absent(error):
        return f"the hub's model has no {CONFIG_FILE}"
    if isinstance(error, RepositoryNotFoundError):
        return "it is no folder, and the hub has no such model or shows it only when logged in"
    if isinstance(error, HfHubHTTPError):
        return f"the hub answered {error.response.status_code}"
    return (
        "it is no folder and not in the local cache, and the hub was not reached "
        f"({first_line(error)})"
    )


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or what it is called if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_path(model: str) -> bool:
    """Whether a name is meant as a path: hub ids have one slash at most."""
    return model.startswith((".", "/", "~")) or "\\" in model or model.count("/") > 1


def _content(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return "it is empty"
    more = " and more" if len(names) > MOST_FILES_IN_A_MESSAGE else ""
    return f"it holds {', '.join(names[:MOST_FILES_IN_A_MESSAGE])}{more}"
