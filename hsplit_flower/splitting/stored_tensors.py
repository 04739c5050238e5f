"""What a safetensors file holds, by its header, and some numbers of a tensor without the others."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .tensor_file import DTYPES

# As safetensors itself: what says more is no header.
MOST_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_METADATA = "__metadata__"


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor of a file: its type by the format's name, its shape, and where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int
    file: int

    @property
    def numbers(self) -> torch.dtype:
        """What its bytes are read as; bytes, where torch has no such numbers."""
        dtype = DTYPES.get(self.dtype, torch.uint8)
        return dtype if prod(self.shape) * dtype.itemsize == self.num_bytes else torch.uint8

    @property
    def count(self) -> int:
        """How many of these there are."""
        return self.num_bytes // self.numbers.itemsize

    def read(self, start: int, stop: int) -> Tensor:
        """Some of its numbers, counted in the order in which they lie in the file.

        Raises
        ------
        ValueError
            If the file ends before them.
        """
        size = self.numbers.itemsize
        wanted = (stop - start) * size
        piece = os.pread(self.file, wanted, self.start + start * size)
        if len(piece) != wanted:
            raise ValueError("the file ends before its header says so")
        return torch.frombuffer(bytearray(piece), dtype=self.numbers) if piece else torch.empty(0)


@contextmanager
def stored_tensors(path: Path) -> Iterator[Mapping[str, StoredTensor]]:
    """The tensors of a file by name, to be read until the block ends.

    Raises
    ------
    ValueError
        If it is no safetensors file, or not all of one.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > min(MOST_HEADER_BYTES, size - _LENGTH_BYTES):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("the header is no mapping")
        begin = _LENGTH_BYTES + length
        yield {
            str(name): _stored(entry, begin, size, file.fileno())
            for name, entry in header.items()
            if name != _METADATA
        }


def _stored(entry: Any, begin: int, size: int, file: int) -> StoredTensor:
    try:
        start, stop = map(int, entry["data_offsets"])
        stored = StoredTensor(
            dtype=str(entry["dtype"]),
            shape=tuple(map(int, entry["shape"])),
            start=begin + start,
            num_bytes=stop - start,
            file=file,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"an entry of the header is none: {error!r}") from error
    if not 0 <= start <= stop or begin + stop > size:
        raise ValueError("a tensor lies outside of its file")
    return stored
