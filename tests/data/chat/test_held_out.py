"""What is held out: no text on both sides, the same ones in a part of a set as in all of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.data.chat import Conversation, held_out_split, load_conversations
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
