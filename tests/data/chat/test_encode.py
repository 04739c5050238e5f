"""Rows that are too long, texts, and what is counted of them."""

import logging
from copy import deepcopy

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase

from hsplit_flower.data.chat import Conversation, EncodingCounts, Message, encode_conversations
from hsplit_flower.errors import ConfigError, DataError
from hsplit_flower.types import IGNORED_LABEL

from .conftest import WithTemplate
from .templates import HEADERS, without_marks

SHORT = Conversation(
    messages=(Message(role="user", content="Where?"), Message(role="assistant", content="Here.")),
    place="talks.jsonl, line 1",
)
LONG = Conversation(
    messages=(
        Message(role="user", content="Where is it? " * 10),
        Message(role="assistant", content="It is not here. " * 10),
    ),
    place="talks.jsonl, line 2",
)


def length_of(one: Conversation, tokenizer: PreTrainedTokenizerBase) -> int:
    return len(encode_conversations([one], tokenizer, max_length=4096).examples[0])


def test_long_rows_are_left_out_and_counted(
    tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    short = length_of(SHORT, tokenizer)
    with caplog.at_level(logging.WARNING):
        done = encode_conversations([SHORT, LONG], tokenizer, max_length=short)
    assert [len(each) for each in done.examples] == [short]
    learnt = done.examples[0].num_learnt
    assert done.counts == EncodingCounts(
        num_rows=2, num_long=1, num_tokens=short, num_learnt_tokens=learnt
    )
    assert 0 < done.counts.learnt_share < 1
    assert caplog.messages == [f"too long: 1 of 2 rows, with more than {short} tokens, left out"]


def test_long_rows_are_cut_and_left_out_where_no_answer_is_left(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    (whole,) = encode_conversations([LONG], tokenizer, max_length=4096).examples
    first = next(at for at, label in enumerate(whole.labels) if label != IGNORED_LABEL)
    cut = encode_conversations([SHORT, LONG], tokenizer, max_length=first + 3, on_long="truncate")
    assert cut.examples[1].input_ids == whole.input_ids[: first + 3]
    assert cut.examples[1].num_learnt == 3
    assert (cut.counts.num_long, cut.counts.num_without_answer) == (1, 0)
    none = encode_conversations([SHORT, LONG], tokenizer, max_length=first, on_long="truncate")
    assert len(none.examples) == 1
    assert (none.counts.num_long, none.counts.num_without_answer) == (1, 1)


def test_long_rows_can_be_an_error(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(
        DataError, match=r"talks.jsonl, line 2 has \d+ tokens, more than 40 \(too long: 1 of 2"
    ):
        encode_conversations([SHORT, LONG], tokenizer, max_length=40, on_long="error")
    with pytest.raises(DataError, match="none of 1 row is left: 1 too long, with more than 9"):
        encode_conversations([LONG], tokenizer, max_length=9)
    with pytest.raises(ConfigError, match="on_long must be"):
        encode_conversations([LONG], tokenizer, max_length=9, on_long="cut")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_length must be 2 or more"):
        encode_conversations([LONG], tokenizer, max_length=1)


def test_a_text_is_learnt_whole_with_one_end(tokenizer: PreTrainedTokenizerBase) -> None:
    for text in ("It is here.", "It is here.</s>"):
        (example,) = encode_conversations(
            [Conversation(text=text)], tokenizer, max_length=64
        ).examples
        assert tokenizer.decode(example.input_ids) == "It is here.</s>"
        assert example.labels == (IGNORED_LABEL, *example.input_ids[1:])


def test_texts_begin_as_the_tokenizers_own_do(tokenizer: PreTrainedTokenizerBase) -> None:
    beginning = deepcopy(tokenizer)
    beginning.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    for text in ("Here.", "<s>Here."):
        (example,) = encode_conversations(
            [Conversation(text=text)], beginning, max_length=64
        ).examples
        assert tokenizer.decode(example.input_ids) == "<s>Here.</s>"
    (talk,) = encode_conversations([SHORT], beginning, max_length=64).examples
    assert tokenizer.decode(talk.input_ids) == "<s>User: Where?\nAssistant: Here.</s>\n"


def test_a_template_begins_a_text_by_itself(with_template: WithTemplate) -> None:
    tokenizer = with_template(without_marks(HEADERS))
    (example,) = encode_conversations([SHORT], tokenizer, max_length=64).examples
    assert tokenizer.decode(example.input_ids).count("<s>") == 1
