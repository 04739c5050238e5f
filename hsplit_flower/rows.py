"""What may be said of rows, by settings and by what reads them."""

from collections.abc import Iterable
from typing import Literal

RowFormatName = Literal["messages", "prompt", "instruction", "text"]
"""What a row of a file of conversations is."""

Learn = Literal["answers", "last-answer", "everything"]
"""What is learnt of a conversation."""

OnLong = Literal["drop", "truncate", "error"]
"""What becomes of rows with too many tokens."""


def names_told(names: Iterable[object]) -> str:
    """The names of columns or keys that were found, for the ``private_detail`` of an error.

    They are nobody's but the file's owner's: a CSV file without a header has a row in their place.
    """
    return str(sorted(map(str, names)))
