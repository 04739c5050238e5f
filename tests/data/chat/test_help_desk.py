"""The built-in conversations: the same everywhere, of several lengths, all of them answered."""

from itertools import islice
from zlib import crc32

import pytest

from hsplit_flower.data.chat import load_conversations
from hsplit_flower.data.chat.help_desk import NUM_ROWS, rows
from hsplit_flower.data.chat.row_format import RowFormat
from hsplit_flower.errors import DataError

CHECKSUM = 1132096898


def test_every_machine_makes_the_same() -> None:
    made = str([row.values for row in rows()])
    assert crc32(made.encode()) == CHECKSUM
    assert [row.values for row in islice(rows(seed=1), 3)] != [row.values for row in rows(3)]


def test_they_are_conversations_with_groups_to_divide_by() -> None:
    read = load_conversations("help-desk", RowFormat(group_by="topic"))
    assert len(read) == NUM_ROWS
    assert {len(one.messages) for one in read} == {3, 5, 7}
    assert {one.messages[-1].role for one in read} == {"assistant"}
    assert len({one.group for one in read}) == 5
    assert (
        len({one.group for one in load_conversations("help-desk", RowFormat(group_by="office"))})
        == 6
    )
    assert not any("{" in turn.content for one in read for turn in one.messages)


def test_wrong_numbers_are_refused() -> None:
    for wrong in ({"num_rows": 0}, {"seed": -1}):
        with pytest.raises(DataError, match="one conversation or more"):
            next(rows(**wrong))
