"""The global adapter as a standard PEFT checkpoint, and back.

``PeftModel.from_pretrained(base, folder)`` gives the same logits as our own evaluation, and so does
every other reader: all weights have one rank, padded with zeros, and ``lora_alpha`` equals it, so
that the scaling is one by any rule and the factors carry everything.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..errors import AdapterError
from ..splitting import known_revision
from ..splitting.tensor_file import save_tensors
from .low_rank import LowRank
from .peft_state import padded_state_dict, updates_of_peft

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"


def export_adapter(
    updates: Mapping[str, LowRank],
    folder: str | Path,
    *,
    base_model: str,
    is_transposed: bool,
    revision: str = "",
    dtype: torch.dtype = torch.float32,
    card: str = "",
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``, and ``README.md``.

    A folder that holds an adapter holds that one, none or the new one at any time, never a mixture;
    its other files stay.

    Parameters
    ----------
    updates, folder
        The global update by weight name, of which weights of rank 0 are left out; and where to,
        made if absent.
    base_model, revision
        What the adapter belongs to, as PEFT records it; of a hub's model without a revision the
        commit that this machine has.
    is_transposed
        Whether the base stores its matrices as ``[in, out]`` (GPT-2's ``Conv1D``).
    dtype, card, notes
        Of the tensors: float32, bfloat16 or float16; the text of ``README.md``, if any; and texts
        for the header of the tensors' file, which `read_notes` gives back.

    Raises
    ------
    AdapterError
        If every weight has rank 0, or if a factor is not finite, or beyond ``dtype``.
    """
    ranks = {name: update.rank for name, update in sorted(updates.items()) if update.rank}
    if not ranks:
        raise AdapterError("nothing to export: every weight of the adapter has rank 0")
    config = LoraConfig(
        base_model_name_or_path=base_model,
        revision=known_revision(base_model, revision) or None,
        task_type="CAUSAL_LM",
        inference_mode=True,
        r=max(ranks.values()),
        lora_alpha=max(ranks.values()),
        target_modules=list(ranks),
        fan_in_fan_out=is_transposed,
    )
    _write(Path(folder), config, padded_state_dict(updates, dtype), card, notes or {})
    return Path(folder)


def import_adapter(folder: str | Path) -> dict[str, LowRank]:
    """Read a PEFT LoRA checkpoint as exact updates, its scaling folded in.

    Raises
    ------
    AdapterError
        If there is none, if it is a pickle file, or if it is more or less than plain LoRA on an
        unchanged base.
    """
    folder = Path(folder)
    config = _read_config(folder)
    with _reading_weights(folder):
        tensors = load_file(folder / WEIGHTS_FILE)
    return updates_of_peft(tensors, config, what=f"{folder / CONFIG_FILE}")


def read_notes(folder: Path) -> dict[str, str]:
    """The texts in the header of an adapter's file of tensors.

    Raises
    ------
    AdapterError
        If there is none that can be read.
    """
    with _reading_weights(folder), safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
        return dict(file.metadata() or {})


def _write(
    folder: Path,
    config: LoraConfig,
    state: Mapping[str, Tensor],
    card: str,
    notes: Mapping[str, str],
) -> None:
    """Write all files aside, and then move them."""
    fresh = folder / ".new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        config.save_pretrained(str(fresh))
        save_tensors(fresh / WEIGHTS_FILE, state, metadata={"format": "pt", **notes})
        if card:
            (fresh / CARD_FILE).write_text(card, encoding="utf-8")
        _take_over(folder, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def _reading_weights(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise AdapterError(
            f"{folder} has no readable {WEIGHTS_FILE} (pickle files are refused): {error}"
        ) from error


def _take_over(folder: Path, fresh: Path) -> None:
    """Move what is in ``fresh`` to ``folder``, which is no adapter's while that is under way."""
    (folder / CONFIG_FILE).unlink(missing_ok=True)
    for name in (WEIGHTS_FILE, CARD_FILE, CONFIG_FILE):
        if (fresh / name).exists():
            (fresh / name).replace(folder / name)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{folder} has no readable {CONFIG_FILE}: {error}") from error
    if not isinstance(config, dict):
        raise AdapterError(
            f"{folder} has no readable {CONFIG_FILE}: it is a {type(config).__name__}, and keys "
            "with values are wanted"
        )
    return config
