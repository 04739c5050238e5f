"""The global adapter as a standard PEFT checkpoint, and back.

``PeftModel.from_pretrained(base, folder)`` gives the same logits as our own evaluation: ranks
differ per weight through ``rank_pattern``, and ``alpha_pattern`` equals it, so that the scaling of
PEFT is one and the factors carry everything.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import AdapterError
from .low_rank import LowRank

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
UNREADABLE = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "layer_replication",
)


def export_adapter(
    updates: Mapping[str, LowRank], folder: str | Path, *, base_model: str, is_transposed: bool
) -> Path:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``.

    Parameters
    ----------
    updates
        The global update by weight name; weights of rank 0 are left out.
    folder
        Where to; made if absent.
    base_model
        What the adapter belongs to, as PEFT records it.
    is_transposed
        Whether the base stores its matrices as ``[in, out]`` (GPT-2's ``Conv1D``).

    Raises
    ------
    AdapterError
        If every weight has rank 0: there is nothing to export.
    """
    ranks = {name: update.rank for name, update in sorted(updates.items()) if update.rank}
    if not ranks:
        raise AdapterError("nothing to export: every weight of the adapter has rank 0")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    patterns = {re.escape(name): rank for name, rank in ranks.items()}
    config = LoraConfig(
        base_model_name_or_path=base_model,
        task_type="CAUSAL_LM",
        inference_mode=True,
        r=max(ranks.values()),
        lora_alpha=max(ranks.values()),
        target_modules=sorted(ranks),
        rank_pattern=patterns,
        alpha_pattern=dict(patterns),
        fan_in_fan_out=is_transposed,
    )
    config.save_pretrained(str(folder))
    save_file(
        {PREFIX + key: value for key, value in to_state_dict(updates).items()},
        folder / WEIGHTS_FILE,
        metadata={"format": "pt"},
    )
    return folder


def import_adapter(folder: str | Path) -> dict[str, LowRank]:
    """Read a PEFT LoRA checkpoint as exact updates, its scaling folded in.

    Raises
    ------
    AdapterError
        If there is none, if it is a pickle file, or if it is more than plain LoRA.
    """
    folder = Path(folder)
    settings = _read_settings(folder)
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise AdapterError(
            f"{folder} has no readable {WEIGHTS_FILE} (pickle files are refused): {error}"
        ) from error
    plain = {key.removeprefix(PREFIX): value for key, value in tensors.items()}
    updates = from_state_dict(plain)
    return {name: update.scale(_scaling(settings, name)) for name, update in updates.items()}


def to_state_dict(updates: Mapping[str, LowRank]) -> dict[str, Tensor]:
    """Factors under PEFT's keys, ``NAME.lora_A.weight`` and ``NAME.lora_B.weight``."""
    state = {}
    for name, update in updates.items():
        if update.rank:
            state[f"{name}.lora_A.weight"] = update.a.contiguous()
            state[f"{name}.lora_B.weight"] = update.b.contiguous()
    return state


def from_state_dict(state: Mapping[str, Tensor]) -> dict[str, LowRank]:
    """The inverse of :func:`to_state_dict`.

    Raises
    ------
    AdapterError
        If a key is not a LoRA factor's, or its other factor is missing.
    """
    names: dict[str, None] = {}
    for key in state:
        name, _, kind = key.rpartition(".lora_")
        if kind not in ("A.weight", "B.weight") or not name:
            raise AdapterError(
                f"unexpected tensor {key!r}: NAME.lora_A.weight and NAME.lora_B.weight are wanted"
            )
        names[name] = None
    updates = {}
    for name in names:
        try:
            a, b = state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]
        except KeyError as error:
            raise AdapterError(f"weight {name!r} lacks its factor {error}") from None
        updates[name] = LowRank(b=b.float(), a=a.float())
    return updates


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{folder} has no readable {CONFIG_FILE}: {error}") from error
    kind = settings.get("peft_type")
    extras = [key for key in UNREADABLE if settings.get(key)]
    if kind != "LORA" or extras:
        raise AdapterError(
            f"{folder} is not plain LoRA: peft_type {kind!r}, with {extras or 'no extras'}"
        )
    return settings


def _scaling(settings: Mapping[str, Any], name: str) -> float:
    rank = _pattern_value(settings.get("rank_pattern") or {}, name, settings["r"])
    alpha = _pattern_value(settings.get("alpha_pattern") or {}, name, settings["lora_alpha"])
    return float(alpha / math.sqrt(rank) if settings.get("use_rslora") else alpha / rank)


def _pattern_value(patterns: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value that PEFT gives a module: the first pattern that matches a tail of its name."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default
