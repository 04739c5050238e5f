"""What is held out: no text on both sides, the same ones in a part of a set as in all of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.data.chat import (
    Conversation,
    held_out_of_parts,
    held_out_split,
    load_conversations,
)
from hsplit_flower.errors import ConfigError, DataError


def texts(*contents: str) -> list[Conversation]:
    return [Conversation(text=content) for content in contents]


@given(
    contents=st.lists(st.text(max_size=3), min_size=2).filter(lambda found: len({*found}) > 1),
    share=st.floats(0.01, 0.99),
)
def test_each_is_on_one_side_and_equal_ones_on_the_same(contents: list[str], share: float) -> None:
    train, held_out = held_out_split(texts(*contents), share)
    assert train and held_out
    assert sorted(one.text for one in (*train, *held_out)) == sorted(contents)
    assert not {one.text for one in train} & {one.text for one in held_out}


@given(
    contents=st.lists(st.text(max_size=3), min_size=2).filter(lambda found: len({*found}) > 1),
    share=st.floats(0.01, 0.99),
    data=st.data(),
)
def test_no_part_of_a_set_trains_on_what_the_whole_or_another_part_holds_out(
    contents: list[str], share: float, data: st.DataObject
) -> None:
    everything = texts(*contents)
    owners = data.draw(
        st.lists(st.integers(0, 2), min_size=len(everything), max_size=len(everything))
    )
    parts = [[at for at, own in enumerate(owners) if own == owner] for owner in range(3)]
    _, of_the_whole = held_out_split(everything, share)
    sides = held_out_of_parts(everything, parts, share)
    trained = {one.text for train, _ in sides for one in train}
    assert not trained & {one.text for one in of_the_whole}
    assert not trained & {one.text for _, held_out in sides for one in held_out}
    for part, (train, held_out) in zip(parts, sides, strict=True):
        own = sorted(everything[at].text for at in part)
        assert sorted(one.text for one in (*train, *held_out)) == own


def test_about_the_share_is_held_out_and_parts_agree_with_the_whole() -> None:
    everything = load_conversations("help-desk")
    _, held_out = held_out_split(everything, 0.2)
    assert len(held_out) == pytest.approx(0.2 * len(everything), rel=0.15)
    held = {one.messages for one in held_out}
    for part in (everything[::3], everything[1::3]):
        _, out = held_out_split(part, 0.2)
        assert {one.messages for one in out} <= held


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(DataError, match="3 conversations, and fewer than two that differ"):
        held_out_split(texts("a", "a", "a"), 0.5)
    with pytest.raises(DataError, match="0 conversations"):
        held_out_split([], 0.5)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        held_out_split(texts("a", "b"), 1.0)
