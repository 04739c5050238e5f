from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hsplit_flower.data import (
    PROMPT_STYLES,
    Example,
    encode_examples,
    end_token_id,
    format_prompt,
    load_examples,
    pad_token_id,
)
from hsplit_flower.errors import ConfigError, DataError
from hsplit_flower.types import IGNORED_LABEL

SHORT = Example(meaning="name[A], kind[inn]", reference="A is an inn.")
LONG = Example(meaning="name[A], kind[inn]", reference="A is an inn. " * 30)


@pytest.mark.parametrize("style", sorted(PROMPT_STYLES))
def test_ids_are_the_prompt_the_reference_and_the_end(
    tokenizer: PreTrainedTokenizerBase, style: str
) -> None:
    sources = load_examples("restaurants", "dev")[:50]
    encoded = encode_examples(sources, tokenizer, max_length=256, style=style)
    for example, source in zip(encoded, sources, strict=True):
        text = tokenizer.decode(example.input_ids, clean_up_tokenization_spaces=False)
        assert text == format_prompt(source, style) + source.reference + "</s>"
        asked = [label for label in example.labels if label != IGNORED_LABEL]
        assert tokenizer.decode(asked) == source.reference + "</s>"


def test_labels_are_the_ids_from_the_reference_on(tokenizer: PreTrainedTokenizerBase) -> None:
    (example,) = encode_examples([SHORT], tokenizer, max_length=64)
    given = len(tokenizer(format_prompt(SHORT))["input_ids"])
    assert example.labels[:given] == (IGNORED_LABEL,) * given
    assert example.labels[given:] == example.input_ids[given:]
    assert example.input_ids[-1] == 2 and len(example) == len(example.labels)


def test_tokenising_apart_is_tokenising_together(
    tokenizer: PreTrainedTokenizerBase, gpt2_tokenizer: PreTrainedTokenizerBase
) -> None:
    gpt2_tokenizer.eos_token = "<|endoftext|>"
    examples = load_examples("restaurants", "dev")[:100]
    for each in (tokenizer, gpt2_tokenizer):
        for example, encoded in zip(
            examples, encode_examples(examples, each, max_length=256), strict=True
        ):
            together = each(format_prompt(example) + example.reference)["input_ids"]
            assert list(encoded.input_ids) == [*together, each.eos_token_id]


def test_many_examples_are_encoded_as_each_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    examples = [SHORT, *load_examples("restaurants", "dev")[:5], SHORT]
    alone = [encode_examples([example], tokenizer, max_length=256)[0] for example in examples]
    assert encode_examples(examples, tokenizer, max_length=256) == alone


def test_begin_token_comes_first_where_the_tokenizer_puts_it(llama_tiny: Path) -> None:
    own = AutoTokenizer.from_pretrained(llama_tiny)
    plain = encode_examples([SHORT], own, max_length=64)[0]
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    begun = encode_examples([SHORT], own, max_length=64)[0]
    assert begun.input_ids == (1, *plain.input_ids)
    assert begun.labels == (IGNORED_LABEL, *plain.labels)


def test_longest_allowed_is_max_length(tokenizer: PreTrainedTokenizerBase) -> None:
    length = len(encode_examples([SHORT], tokenizer, max_length=256)[0])
    assert len(encode_examples([SHORT], tokenizer, max_length=length)) == 1
    with pytest.raises(
        DataError, match=f"1 of 1 examples are longer than max_length = {length - 1}"
    ):
        encode_examples([SHORT], tokenizer, max_length=length - 1)


def test_too_long_is_refused_with_how_many_and_which(tokenizer: PreTrainedTokenizerBase) -> None:
    length = len(encode_examples([LONG], tokenizer, max_length=1000)[0])
    message = rf"2 of 3 examples .*max_length = 64 .*example 1 is the longest, with {length}\)"
    with pytest.raises(DataError, match=message):
        encode_examples([SHORT, LONG, LONG], tokenizer, max_length=64)


def test_too_long_is_dropped_on_demand_and_told(
    tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    kept = encode_examples([LONG, SHORT], tokenizer, max_length=64, on_long="drop")
    assert kept == encode_examples([SHORT], tokenizer, max_length=64)
    assert "1 of 2 examples are longer" in caplog.text
    with pytest.raises(DataError, match="so none is left"):
        encode_examples([LONG], tokenizer, max_length=64, on_long="drop")


@pytest.mark.parametrize(
    "wrong", [{"on_long": "truncate"}, {"max_length": 0}, {"style": "chat"}], ids=str
)
def test_settings_out_of_range_are_refused(
    tokenizer: PreTrainedTokenizerBase, wrong: dict[str, object]
) -> None:
    with pytest.raises(ConfigError):
        encode_examples([SHORT], tokenizer, **{"max_length": 64, **wrong})


def test_no_examples_are_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError, match="no examples"):
        encode_examples([], tokenizer, max_length=64)


def test_padding_falls_back_on_the_end_token(gpt2_tokenizer: PreTrainedTokenizerBase) -> None:
    for read in (end_token_id, pad_token_id):
        with pytest.raises(DataError, match=r"set its .*eos_token, in tokenizer_config.json"):
            read(gpt2_tokenizer)
    with pytest.raises(DataError, match="gpt2-tokenizer' has no end token"):
        encode_examples([SHORT], gpt2_tokenizer, max_length=64)
    gpt2_tokenizer.eos_token = "<|endoftext|>"
    assert pad_token_id(gpt2_tokenizer) == end_token_id(gpt2_tokenizer) == 50256


def test_padding_token_is_used_where_there_is_one(tokenizer: PreTrainedTokenizerBase) -> None:
    assert (pad_token_id(tokenizer), end_token_id(tokenizer)) == (0, 2)
