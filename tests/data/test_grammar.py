from random import Random

import pytest

from hsplit_flower.data.grammar import pick, realise, shuffled

ATTRIBUTES = {
    "name": "The Copper Heron",
    "kind": "inn",
    "food": "Austrian",
    "near": "Fuller's Mill",
}


def realisations(attributes: dict[str, str]) -> list[str]:
    return [realise(attributes, Random(seed)) for seed in range(300)]


def test_every_value_is_said_exactly_once() -> None:
    for text in realisations(ATTRIBUTES):
        for value in ("The Copper Heron", "Austrian", "Fuller's Mill"):
            assert text.count(value) == 1, text
        assert "inn" in text


def test_one_meaning_has_many_realisations() -> None:
    assert len(set(realisations(ATTRIBUTES))) > 100


def test_sentences_begin_with_a_capital_and_end_with_a_stop() -> None:
    for text in realisations(ATTRIBUTES):
        sentences = text.removesuffix(".").split(". ")
        assert text.endswith(".") and all(s[0].isupper() for s in sentences), text
        assert "  " not in text and " ," not in text and "{" not in text, text


def test_article_fits_the_word_after_it() -> None:
    texts = " ".join(realisations(ATTRIBUTES))
    assert "an Austrian inn" in texts and "an inn" in texts
    assert "a inn" not in texts and "a Austrian" not in texts and "an tavern" not in texts


def test_good_and_bad_news_are_joined_by_but_and_news_of_one_kind_by_and() -> None:
    mixed = {"name": "The Copper Heron", "price": "cheap", "family-friendly": "no"}
    both_good = {"name": "The Copper Heron", "price": "cheap", "family-friendly": "yes"}
    assert any(" but " in text for text in realisations(mixed))
    assert not any(" and " in text for text in realisations(mixed))
    assert any(" and " in text for text in realisations(both_good))
    assert not any(" but " in text for text in realisations(both_good))


def test_name_alone_is_enough() -> None:
    for text in realisations({"name": "The Copper Heron"}):
        assert "The Copper Heron" in text and text.count(".") == 1


def test_unknown_value_is_not_passed_over() -> None:
    with pytest.raises(KeyError):
        realisations({"name": "The Copper Heron", "price": "free"})


def test_pick_reaches_every_option_and_shuffled_keeps_every_item() -> None:
    rng = Random(1)
    assert {pick("abc", rng) for _ in range(100)} == set("abc")
    orders = {tuple(shuffled("abc", rng)) for _ in range(200)}
    assert len(orders) == 6 and all(sorted(order) == list("abc") for order in orders)
