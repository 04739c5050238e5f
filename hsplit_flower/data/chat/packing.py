"""Several documents in one row, each attending to itself alone: less padding, the same tokens."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import ConfigError, DataError
from ...types import IGNORED_LABEL
from ..encode import EncodedExample


@dataclass(frozen=True, kw_only=True)
class PackedRow:
    """Documents one after the other, told apart by positions that begin anew with each.

    No document's first token is learnt: what stands before it is another one's.
    """

    documents: tuple[EncodedExample, ...]

    def __len__(self) -> int:
        return sum(map(len, self.documents))

    @property
    def input_ids(self) -> tuple[int, ...]:
        return tuple(token for each in self.documents for token in each.input_ids)

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(
            label for each in self.documents for label in (IGNORED_LABEL, *each.labels[1:])
        )

    @property
    def position_ids(self) -> tuple[int, ...]:
        return tuple(position for each in self.documents for position in range(len(each)))


def pack(encoded: Sequence[EncodedExample], row_length: int) -> list[PackedRow]:
    """The examples in rows of at most so many tokens, none of them cut.

    Best fit decreasing: the longest first, each into the row that it fills best. That takes at most
    11/9 of the fewest rows there can be, and 4 more (Johnson 1974, for bins).

    Parameters
    ----------
    row_length
        Most tokens in a row.

    Raises
    ------
    ConfigError
        If `row_length` is not positive.
    DataError
        If an example is longer than a row.
    """
    if row_length < 1:
        raise ConfigError(f"row_length must be 1 or more, got {row_length}")
    rows: list[list[EncodedExample]] = []
    # Room that is left, and whose it is; in order.
    room: list[tuple[int, int]] = []
    for example in sorted(encoded, key=len, reverse=True):
        if len(example) > row_length:
            raise DataError(
                f"an example of {len(example)} tokens does not fit into a row of {row_length}: "
                "leave it out, or cut it, before rows are packed"
            )
        place = bisect_left(room, (len(example), 0))
        if place == len(room):
            left, row = row_length, len(rows)
            rows.append([])
        else:
            left, row = room.pop(place)
        rows[row].append(example)
        insort(room, (left - len(example), row))
    return [PackedRow(documents=tuple(row)) for row in rows]
