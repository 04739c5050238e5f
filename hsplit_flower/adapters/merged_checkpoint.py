"""A whole model with an adapter added to its weights, as a checkpoint like the base's own.

Sums are made in float32 and rounded once: ``round(W + B A)``. To round ``B A`` to 16 bits first, or
to add in them, would round again and again. Files are read and written tensor by tensor: the
largest tensor, in float32, and one block of the model are what memory must hold.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

from ..errors import AdapterError, UnsupportedModelError
from ..splitting import Architecture, Checkpoint, Parts, build_empty, describe, load_half
from ..splitting.checkpoint import Unread
from ..splitting.companions import copy_companions
from ..splitting.linear import linear_at
from ..splitting.model_name import INDEX_FILE, SINGLE_FILE
from ..splitting.tensor_file import DTYPES, TensorEntry, write_tensors
from ..types import Span
from .low_rank import LowRank
from .peft_checkpoint import CARD_FILE
from .whole_folder import check_is_free, whole_folder

_NOT_QUANTISED = (
    "nothing is ever merged into a quantised weight; leave the adapter beside it, or merge into "
    "the unquantised checkpoint that it was made of"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Change:
    """What is added to one tensor of a checkpoint; a transposed one is ``[in, out]``."""

    name: str
    update: LowRank
    is_transposed: bool

    @property
    def shape(self) -> list[int]:
        """Of the tensor as it is stored."""
        shape = [self.update.out_features, self.update.in_features]
        return shape[::-1] if self.is_transposed else shape


def merge_into(
    updates: Mapping[str, LowRank],
    folder: str | Path,
    *,
    base: Checkpoint,
    dtype: torch.dtype | None = None,
    card: str = "",
) -> Path:
    """Write the base with the updates added to its weights.

    Parameters
    ----------
    updates
        By weight name; those of rank 0 add nothing.
    folder
        Where to: absent, or empty. It is there when all of it is.
    base
        The model's files. Their division into shards is kept.
    dtype
        What all floating-point numbers become; None leaves each tensor its own type.
    card
        What its README says, such as of which revision the base is; empty for no README.

    Raises
    ------
    UnsupportedModelError
        If the base is quantised, or stores a weight in another form than the model has it.
    AdapterError
        If an update does not fit the base, or the sum does not fit the type.
    ConfigError
        If something is in the folder.
    """
    check_is_free(folder)
    folder = Path(folder)
    config = base.config()
    _refuse_quantised(base, config)
    model = build_empty(config)
    changes = _changes(updates, model)
    with base.open(lambda name: True, torch.bfloat16) as tensors:
        shards = _shards(base, tensors)
        by_key = _by_key(changes, {name: tensors[name] for name in shards}, base)
        _check_as_stored(by_key, tensors, base, describe(model))
        with whole_folder(folder) as fresh:
            copy_companions(base, fresh, dtype)
            if card:
                (fresh / CARD_FILE).write_text(card, encoding="utf-8")
            _write_shards(fresh, shards, tensors, by_key, dtype)
    return folder


def _refuse_quantised(base: Checkpoint, config: PretrainedConfig) -> None:
    if getattr(config, "quantization_config", None):
        raise UnsupportedModelError(f"{base.source!r} is quantised: {_NOT_QUANTISED}")


def _changes(updates: Mapping[str, LowRank], model: nn.Module) -> list[_Change]:
    """What is added where, in the orientation in which the model has each weight."""
    changes = []
    for name, update in updates.items():
        if not update.rank:
            continue
        layer = linear_at(model, name)
        change = _Change(name=name, update=update, is_transposed=isinstance(layer, Conv1D))
        if change.shape != list(layer.weight.shape):
            raise AdapterError(
                f"the update of {name!r} is for a tensor of {change.shape}, the model's is "
                f"{list(layer.weight.shape)}: the base that the adapter was trained on is wanted"
            )
        changes.append(change)
    return changes


def _shards(base: Checkpoint, tensors: Mapping[str, Unread]) -> dict[str, str]:
    """The file of each tensor."""
    listed = base.files()
    if list(listed.values()) == [None]:
        return dict.fromkeys(tensors, SINGLE_FILE)
    shards = {name: str(file) for name, file in listed.items()}
    if lacking := sorted(set(shards) - set(tensors)):
        raise UnsupportedModelError(
            f"the shards of {base.source!r} lack {lacking[0]!r}, which {INDEX_FILE} lists: a "
            "complete checkpoint is wanted"
        )
    if strange := [file for file in shards.values() if Path(file).name != file]:
        raise UnsupportedModelError(
            f"{INDEX_FILE} of {base.source!r} lists {strange[0]!r}: files beside it are wanted"
        )
    return shards


def _by_key(
    changes: list[_Change], tensors: Mapping[str, Unread], base: Checkpoint
) -> dict[str, _Change]:
    """The changes by their tensor's name on disk, which may lack the model's prefix."""
    found = {}
    for change in changes:
        key = f"{change.name}.weight"
        keys = [each for each in (key, key.partition(".")[2]) if each in tensors]
        if len(keys) != 1:
            raise UnsupportedModelError(
                f"{base.source!r} stores no tensor for {change.name!r} alone, wanted is {key!r}: "
                "its layout is another one than the model's, and nothing can be added to it there; "
                "leave the adapter beside the base"
            )
        if not _entry(keys[0], tensors[keys[0]], None).dtype.is_floating_point:
            raise UnsupportedModelError(
                f"{base.source!r} stores {change.name!r} in whole numbers: {_NOT_QUANTISED}"
            )
        found[keys[0]] = change
    return found


def _check_as_stored(
    by_key: Mapping[str, _Change],
    tensors: Mapping[str, Unread],
    base: Checkpoint,
    architecture: Architecture,
) -> None:
    """Refuse a weight that is more than its tensor read: permuted, scaled or put together.

    Each block is loaded once as training loads it, and compared with what is stored.
    """
    blocks = {weight.name: weight.block for weight in architecture.weights}
    for block in sorted({blocks[change.name] for change in by_key.values()}):
        half = load_half(
            base.source,
            Parts(embeddings=False, span=Span(start=block, stop=block + 1), head=False),
            revision=base.revision,
        )
        for key, change in by_key.items():
            if blocks[change.name] != block:
                continue
            stored = tensors[key][...]
            loaded = linear_at(half.model, change.name).weight
            if not torch.equal(stored.to(loaded.dtype), loaded):
                raise UnsupportedModelError(
                    f"{base.source!r} stores {change.name!r} in another form than the model has "
                    f"it (its tensor {key!r} is changed when it is loaded): nothing can be added "
                    "to it there; leave the adapter beside the base"
                )


def _write_shards(
    folder: Path,
    shards: dict[str, str],
    tensors: Mapping[str, Unread],
    by_key: Mapping[str, _Change],
    dtype: torch.dtype | None,
) -> None:
    """Each file as the base has it, and the index of them where there are several."""
    entries = {name: _entry(name, tensors[name], dtype) for name in shards}

    def written(name: str) -> Tensor:
        return _written(name, tensors[name], by_key.get(name), entries[name].dtype)

    for file in sorted(set(shards.values())):
        here = {name: entries[name] for name in shards if shards[name] == file}
        metadata = tensors[next(iter(here))].handle.metadata() or {"format": "pt"}
        write_tensors(folder / file, here, written, metadata=metadata)
    if set(shards.values()) != {SINGLE_FILE}:
        total_size = sum(entry.num_bytes for entry in entries.values())
        index = {"metadata": {"total_size": total_size}, "weight_map": shards}
        text = json.dumps(index, indent=2, sort_keys=True)
        (folder / INDEX_FILE).write_text(text + "\n", encoding="utf-8")


def _entry(name: str, tensor: Unread, dtype: torch.dtype | None) -> TensorEntry:
    stored = tensor.handle.get_slice(tensor.name)
    kind = stored.get_dtype()
    if kind not in DTYPES:
        raise UnsupportedModelError(
            f"the checkpoint's {name!r} is of {kind}: plain numbers are wanted "
            f"({', '.join(DTYPES)}), {_NOT_QUANTISED}"
        )
    own = DTYPES[kind]
    changed = dtype if dtype is not None and own.is_floating_point else own
    return TensorEntry(dtype=changed, shape=stored.get_shape())


def _written(name: str, unread: Unread, change: _Change | None, dtype: torch.dtype) -> Tensor:
    """The tensor with what is added to it, rounded once."""
    result = stored = _read(unread)
    if change is not None:
        result = stored.to(torch.promote_types(stored.dtype, torch.float32))
        matrix = result.T if change.is_transposed else result
        matrix.addmm_(change.update.b.to(result), change.update.a.to(result))
    if change is None and stored.dtype is dtype:
        return stored
    result = result.to(dtype)
    if not bool(result.isfinite().all()) and bool(_read(unread).isfinite().all()):
        raise AdapterError(
            f"{name!r} with what is added to it has numbers that {dtype} does not hold: give "
            "another type; bfloat16 has the range of float32"
        )
    return result


def _read(unread: Unread) -> Tensor:
    tensor: Tensor = unread.handle.get_tensor(unread.name)
    return tensor
