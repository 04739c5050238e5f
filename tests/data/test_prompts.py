import pytest

from hsplit_flower.data import PROMPT_STYLES, Example, format_prompt
from hsplit_flower.errors import ConfigError, DataError

VAULTS = Example(
    meaning="name[The Vaults], eatType[pub], customer rating[5 out of 5], familyFriendly[no]",
    reference="The Vaults is a pub.",
)


def test_plain_prompt_has_words_for_names_and_no_brackets() -> None:
    wanted = "name: The Vaults; type: pub; rating: 5 out of 5; family-friendly: no\n"
    assert format_prompt(VAULTS) == format_prompt(VAULTS, "plain") == wanted


def test_unknown_camel_case_is_parted_into_words() -> None:
    example = Example(meaning="openingHours[late]", reference="It is open late.")
    assert format_prompt(example, "plain") == "opening hours: late\n"


def test_brackets_prompt_is_the_meaning_as_it_is() -> None:
    assert format_prompt(VAULTS, "brackets") == VAULTS.meaning + "\n"


def test_every_style_ends_the_prompt_with_a_newline_and_hides_the_reference() -> None:
    for style in PROMPT_STYLES:
        prompt = format_prompt(VAULTS, style)
        assert prompt.endswith("\n") and VAULTS.reference not in prompt


def test_unknown_style_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'chat'; wanted one of \['brackets', 'plain'\]"):
        format_prompt(VAULTS, "chat")


def test_plain_refuses_a_meaning_that_brackets_takes() -> None:
    example = Example(meaning="a pub, cheap", reference="It is a cheap pub.")
    assert format_prompt(example, "brackets") == "a pub, cheap\n"
    with pytest.raises(DataError, match="use the prompt style 'brackets'"):
        format_prompt(example, "plain")
