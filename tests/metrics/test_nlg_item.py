"""Items, and how rows become items."""

import pytest

from hsplit_flower.errors import DataError
from hsplit_flower.metrics import NlgItem, group_references


def test_rows_are_grouped_by_input_in_the_order_of_its_first() -> None:
    rows = [("b", "1"), ("a", "2"), ("b", "3"), ("c", "4"), ("a", "2")]
    grouped = group_references(rows)
    assert list(grouped.items()) == [("b", ("1", "3")), ("a", ("2", "2")), ("c", ("4",))]
    assert group_references([]) == {}


@pytest.mark.parametrize("references", [(), ("",), ("An inn.", " \n")])
def test_an_item_without_a_reference_is_refused(references: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="wanted one reference or more, each with a text"):
        NlgItem(hypothesis="An inn.", references=references)


def test_texts_come_on_a_line_each() -> None:
    item = NlgItem(hypothesis=" An\ninn.\n", references=("At\u2028the\r\nriver.", "Here."))
    assert item.on_lines() == NlgItem(hypothesis="An inn.", references=("At the river.", "Here."))
