import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.data import parse_meaning, write_meaning
from hsplit_flower.errors import DataError

WORDS = st.text(alphabet=string.ascii_letters + " '-é", min_size=1).map(str.strip).filter(bool)
VALUES = st.text(alphabet=string.ascii_letters + " ,.;:£0123456789").map(str.strip)


def test_attributes_come_in_the_order_written() -> None:
    assert parse_meaning("name[The Vaults], eatType[pub],customer rating[5 out of 5]") == (
        ("name", "The Vaults"),
        ("eatType", "pub"),
        ("customer rating", "5 out of 5"),
    )


@given(st.lists(st.tuples(WORDS, VALUES)))
def test_parsing_reverses_writing(attributes: list[tuple[str, str]]) -> None:
    assert parse_meaning(write_meaning(attributes)) == tuple(attributes)


@pytest.mark.parametrize(
    ("meaning", "character"),
    [
        ("The Vaults is a pub", 1),
        ("name[The Vaults", 1),
        ("name[A] eatType[pub]", 1),
        ("name[A], eatType[pub[x]]", 9),
        ("name[A], [pub]", 9),
    ],
)
def test_what_is_no_list_of_attributes_is_refused_with_the_place(
    meaning: str, character: int
) -> None:
    where = f"a meaning of {len(meaning)} characters at its character {character}: wanted attri"
    with pytest.raises(DataError, match=where) as refused:
        parse_meaning(meaning)
    assert meaning not in str(refused.value) and meaning in refused.value.private_detail
