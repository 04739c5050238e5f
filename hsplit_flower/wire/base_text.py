"""The digest of a base as text: blocks that are laid out alike have their layout once."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ..errors import CodecError
from ..splitting.base_digest import UNREAD, BaseDigest, TensorDigest
from .form import from_text, to_text

DIGEST_CHARACTERS = 8
_UNREAD = "-" * DIGEST_CHARACTERS
# A block's number ends the first part of a name.
_BLOCK = re.compile(r"(.*?\.\d+\.)(.+)")

_Entry = tuple[str, str, tuple[Annotated[int, Field(ge=0)], ...]]
"""A tensor's name within its part, its type in the files, its shape."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Tensors whose names begin alike: which layout they have, and their digests in its order."""

    layout: int
    digests: str


@dataclass(frozen=True, kw_only=True)
class _Base:
    quantised: str
    lists_all: bool
    layouts: tuple[tuple[_Entry, ...], ...]
    parts: Mapping[str, _Part]


def base_to_text(base: BaseDigest) -> str:
    """What a message carries; empty where nothing is known."""
    if not base.tensors:
        return ""
    by_part: dict[str, dict[str, TensorDigest]] = {}
    # In an order that is the same however they lie in files.
    for name, one in sorted(base.tensors.items()):
        begin, rest = _split(name)
        by_part.setdefault(begin, {})[rest] = one
    layouts: dict[tuple[_Entry, ...], int] = {}
    parts = {}
    for begin, tensors in by_part.items():
        layout = tuple((rest, one.dtype, one.shape) for rest, one in tensors.items())
        parts[begin] = _Part(
            layout=layouts.setdefault(layout, len(layouts)),
            digests="".join(one.digest or _UNREAD for one in tensors.values()),
        )
    return to_text(
        _Base(
            quantised=base.quantised,
            lists_all=base.lists_all,
            layouts=tuple(layouts),
            parts=parts,
        )
    )


@functools.lru_cache(maxsize=8)
def base_from_text(text: str) -> BaseDigest:
    """The digest that a text stands for.

    Raises
    ------
    CodecError
        If it stands for none.
    """
    if not text:
        return BaseDigest()
    read = from_text(_Base, text)
    tensors: dict[str, TensorDigest] = {}
    for begin, part in read.parts.items():
        if not 0 <= part.layout < len(read.layouts):
            raise CodecError(f"a base has {len(read.layouts)} layouts, and none {part.layout}")
        layout = read.layouts[part.layout]
        if len(part.digests) != DIGEST_CHARACTERS * len(layout):
            raise CodecError(f"a part of a base has {len(layout)} tensors, and not as many digests")
        for place, (rest, dtype, shape) in enumerate(layout):
            start = DIGEST_CHARACTERS * place
            digest = part.digests[start : start + DIGEST_CHARACTERS]
            tensors[begin + rest] = (
                UNREAD
                if digest == _UNREAD
                else TensorDigest(shape=shape, dtype=dtype, digest=digest)
            )
    return BaseDigest(tensors=tensors, quantised=read.quantised, lists_all=read.lists_all)


def _split(name: str) -> tuple[str, str]:
    found = _BLOCK.fullmatch(name)
    return (found[1], found[2]) if found else ("", name)
