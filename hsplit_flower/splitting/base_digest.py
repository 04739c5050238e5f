"""What tells one base from another: names, shapes and types of its tensors, and a digest of each.

Two parties hold different parts of a base, and what both have read is compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class TensorDigest:
    """What is known of one tensor.

    Attributes
    ----------
    shape
        As it is stored.
    dtype
        As a file has it, such as ``BF16``; empty where it was taken from memory. It explains why
        values are other ones: the same values are the same base in whatever type they are stored.
    digest
        Of sampled numbers, as they are computed with; empty where the tensor was not at hand.
    """

    shape: tuple[int, ...] = ()
    dtype: str = ""
    digest: str = ""


UNREAD = TensorDigest()
"""A tensor that an index lists, in a file that is not here."""


@dataclass(frozen=True, kw_only=True)
class BaseDigest:
    """A base, as far as one party has it.

    Attributes
    ----------
    tensors
        By the names that the model's class has for them, whatever the files call them.
    quantised
        What the files hold, such as ``nf4``; empty for plain numbers.
    lists_all
        Whether a tensor that is not listed is not there. From memory only what is held is known.
    """

    tensors: Mapping[str, TensorDigest] = field(default_factory=dict)
    quantised: str = ""
    lists_all: bool = True

    def covers(self, other: "BaseDigest") -> bool:
        """Whether all that the other has read was read here, too."""
        return all(self._has_read(name) for name in other.tensors if other._has_read(name))

    def joined(self, other: "BaseDigest") -> "BaseDigest":
        """With what only the other has read, of the same base."""
        if not self.tensors:
            return other
        more = {name: one for name, one in other.tensors.items() if not self._has_read(name)}
        return BaseDigest(
            tensors={**self.tensors, **more},
            quantised=self.quantised if self.lists_all else other.quantised,
            lists_all=self.lists_all or other.lists_all,
        )

    def _has_read(self, name: str) -> bool:
        return bool(self.tensors.get(name, UNREAD).digest)


def difference(got: BaseDigest, wanted: BaseDigest) -> str:
    """In words, what is other in a base than it should be; empty where nothing is, or is known."""
    if not got.tensors or not wanted.tensors:
        return ""
    if got.lists_all and wanted.lists_all:
        if got.quantised != wanted.quantised:
            return f"it is {_kept(got)}, and {_kept(wanted)} is wanted"
        if more := [name for name in got.tensors if name not in wanted.tensors]:
            return f"it has {_named(more)}, which the other has not"
        if missing := [name for name in wanted.tensors if name not in got.tensors]:
            return f"it lacks {_named(missing)}"
    both = [
        (name, one, wanted.tensors[name])
        for name, one in got.tensors.items()
        if got._has_read(name) and wanted._has_read(name)
    ]
    for name, one, other in both:
        if one.shape != other.shape:
            return f"{name!r} is of shape {list(one.shape)}, and {list(other.shape)} is wanted"
    differing = [(name, one, other) for name, one, other in both if one.digest != other.digest]
    if not differing:
        return ""
    told = (
        f"the values of {len(differing)} of {len(both)} tensors are other ones, those of "
        f"{_named([name for name, _, _ in differing])}"
    )
    _, one, other = differing[0]
    if one.dtype and other.dtype and one.dtype != other.dtype:
        told += f", stored in {one.dtype} where {other.dtype} is wanted"
    return told


def _kept(base: BaseDigest) -> str:
    return f"quantised to {base.quantised} in its files" if base.quantised else "not quantised"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(repr, names[:_MOST_NAMED])) + more
