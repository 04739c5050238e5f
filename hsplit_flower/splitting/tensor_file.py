"""A safetensors file written tensor by tensor: never more than one of them is in memory.

The format is eight bytes of the header's length, the header as JSON with each tensor's type, shape
and place, and the tensors' bytes one after the other. Safetensors' own writers want all tensors of
a file at a time, and a file may be a whole model.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UnsupportedModelError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The types of numbers that are written, by the format's names for them."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 8


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """A tensor that a file is to hold."""

    dtype: torch.dtype
    shape: Sequence[int]

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def write_tensors(
    path: Path,
    entries: Mapping[str, TensorEntry],
    tensor_of: Callable[[str], Tensor],
    *,
    metadata: Mapping[str, str],
) -> None:
    """Write a file, and ask for each tensor when it is its turn.

    Parameters
    ----------
    path
        Replaced if it is there; the file is on disk when this returns.
    entries
        What it is to hold, by name.
    tensor_of
        Gives the tensor of a name, as its entry says.
    metadata
        Texts for the header.

    Raises
    ------
    UnsupportedModelError
        If a tensor is not as its entry says.
    """
    # Wide numbers first, so that each tensor begins where its numbers may lie.
    names = sorted(entries, key=lambda name: -entries[name].dtype.itemsize)
    header = _header(names, entries, metadata)
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for name in names:
            tensor = tensor_of(name)
            _check(name, tensor, entries[name])
            # Through bytes: numpy has no bfloat16.
            file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())


def save_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> None:
    """Write a file of tensors that are there; with the rights of any other new file.

    Parameters
    ----------
    path, metadata
        As in `write_tensors`.
    tensors
        On the host, by name.
    """
    entries = {
        name: TensorEntry(dtype=tensor.dtype, shape=tensor.shape)
        for name, tensor in tensors.items()
    }
    write_tensors(path, entries, tensors.__getitem__, metadata=metadata)


def _header(
    names: Sequence[str], entries: Mapping[str, TensorEntry], metadata: Mapping[str, str]
) -> bytes:
    fields: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name in names:
        entry = entries[name]
        stop = start + entry.num_bytes
        fields[name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(fields, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % _ALIGNMENT)


def _check(name: str, tensor: Tensor, entry: TensorEntry) -> None:
    """A header that says something else than what follows would make numbers of wrong bytes."""
    got, wanted = (tensor.dtype, list(tensor.shape)), (entry.dtype, list(entry.shape))
    if got != wanted:
        raise UnsupportedModelError(
            f"the checkpoint's {name!r} is {got[1]} in {got[0]}, its header says {wanted[1]} in "
            f"{wanted[0]}: a file that is whole is wanted"
        )
