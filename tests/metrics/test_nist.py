"""NIST against its definition, and what the definition is most often got wrong in."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.metrics.nist import nist, nist_words
from hsplit_flower.metrics.nlg_item import NlgItem
from tests.reference.nist import naive_nist

# Few different words, so that texts share sequences of them.
TEXTS = st.lists(st.sampled_from(["the", "inn", "near", "a", "river", "."]), min_size=1, max_size=9)
ITEMS = st.lists(
    st.tuples(st.one_of(st.just([]), TEXTS), st.lists(TEXTS, min_size=1, max_size=4)),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(items=ITEMS)
def test_it_is_the_definition(items: list[tuple[list[str], list[list[str]]]]) -> None:
    made = [
        NlgItem(hypothesis=" ".join(words), references=tuple(map(" ".join, texts)))
        for words, texts in items
    ]
    wanted = naive_nist([words for words, _ in items], [texts for _, texts in items])
    assert nist(made) == pytest.approx(wanted, rel=1e-12, abs=1e-12)


def test_information_comes_from_all_references_of_all_items() -> None:
    items = [
        NlgItem(hypothesis="x", references=("x a", "b c")),
        NlgItem(hypothesis="", references=("x d",)),
    ]
    # x is 2 of 6 words, and 1 word is written where two items of 6 / 3 words each are wanted.
    penalty = math.exp(math.log(0.5) * (math.log(1 / 4) / math.log(1.5)) ** 2)
    assert nist(items) == pytest.approx(math.log2(6 / 2) * penalty)


def test_what_is_written_for_nothing_is_worth_nothing() -> None:
    assert nist([NlgItem(hypothesis="", references=("An inn.",))]) == 0
    assert nist([NlgItem(hypothesis="Und?", references=("An inn.",))]) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's £10-15, isn't it?", "it's £10 - 15 , isn't it ?"),
        ("1,200 guests rate it 4.5.", "1,200 guests rate it 4.5 ."),
        ("(a) &quot;B&quot; &amp; c/d", '( a ) " b " & c / d'),
        ("child-friendly Café", "child-friendly café"),
        ("", ""),
    ],
)
def test_words_are_those_of_mteval(text: str, words: str) -> None:
    assert nist_words(text) == words.split()
