"""Conversations as token ids, with labels on what is learnt of them.

The whole text is tokenised at once, as the model reads it. A token is learnt if a character of an
answer is in it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from ...errors import ConfigError, DataError
from ...rows import Learn, OnLong
from ...sizes import counted
from ...types import IGNORED_LABEL
from ..encode import EncodedExample, end_token_id, start_ids
from .answers import Spans, rendered_answers
from .conversation import Conversation
from .counts import EncodingCounts
from .problems import Problems
from .template import ChatTemplate

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EncodedConversations:
    """Those that are kept, where they were among all, and what became of all of them."""

    examples: list[EncodedExample]
    places: list[int]
    counts: EncodingCounts


def encode_conversations(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    learn: Learn = "answers",
    on_long: OnLong = "drop",
) -> EncodedConversations:
    """The token ids of conversations, labelled where an answer is; of texts, all of it.

    Parameters
    ----------
    max_length
        The most tokens that a row may have.
    learn
        ``"answers"``, each with the token that ends it; ``"last-answer"`` of a conversation alone;
        ``"everything"``, what others say included.
    on_long
        ``"drop"`` leaves longer rows out, ``"truncate"`` cuts their end off, and leaves out those
        that have nothing to learn then; ``"error"`` refuses them. The log says how many.

    Raises
    ------
    ConfigError
        If `on_long` or `max_length` is not one that there is.
    DataError
        If the template cannot render a row or it cannot be told what is learnt of it, a row is too
        long and that is an error, or none is left.
    """
    if on_long not in ("drop", "truncate", "error"):
        raise ConfigError(f"on_long must be 'drop', 'truncate' or 'error', got {on_long!r}")
    if max_length < 2:
        raise ConfigError(f"max_length must be 2 or more, got {max_length}")
    encoded = tokenise(conversations, tokenizer, learn=learn)
    long = [at for at, example in enumerate(encoded) if len(example) > max_length]
    if long and on_long == "error":
        raise DataError(
            f"{conversations[long[0]].place} has {len(encoded[long[0]])} tokens, more than "
            f"{max_length} (too long: {len(long)} of {counted(len(encoded), 'row')}): raise the "
            'sequence length, or set on-long to "drop" or "truncate"'
        )
    fitted = fit(encoded, max_length=max_length, on_long=on_long)
    _tell(fitted.counts, max_length, on_long)
    return fitted


def tokenise(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    *,
    learn: Learn = "answers",
    problems: Problems | None = None,
) -> list[EncodedExample]:
    """All of them in tokens, however long they are; see `encode_conversations`.

    With ``problems``, all that is wrong with rows is noted, and told before any is tokenised.
    """
    if not tokenizer.is_fast:
        raise DataError(
            f"the tokenizer {tokenizer.name_or_path!r} does not say which characters its tokens "
            "are of: one with a tokenizer.json is wanted"
        )
    template = ChatTemplate(tokenizer)
    problems = problems or Problems("the set")
    rendered = []
    for one in conversations:
        with problems.noted():
            rendered.append(rendered_answers(template, one, learn))
    problems.check()
    if not rendered:
        return []
    batch = tokenizer(
        [text for text, _ in rendered],
        add_special_tokens=False,
        return_attention_mask=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    parts = zip(conversations, rendered, batch["input_ids"], batch["offset_mapping"], strict=True)
    return [
        _labelled(ids, offsets, spans) if one.messages else _whole_text(ids, tokenizer)
        for one, (_, spans), ids, offsets in parts
    ]


def _labelled(
    ids: Sequence[int], offsets: Sequence[tuple[int, int]], spans: Spans
) -> EncodedExample:
    labels = [
        token if any(start < stop and end > first for first, stop in spans) else IGNORED_LABEL
        for token, (start, end) in zip(ids, offsets, strict=True)
    ]
    # Nothing is before the first token, so it is learnt by nobody.
    return EncodedExample(input_ids=tuple(ids), labels=(IGNORED_LABEL, *labels[1:]))


def _whole_text(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> EncodedExample:
    """A text with the tokens that a model expects at its ends, if it does not have them already."""
    end: Any = end_token_id(tokenizer)
    begin = list(start_ids(tokenizer))
    start = begin if list(ids[:1]) != begin else []
    all_ids = (*start, *ids, *(() if list(ids[-1:]) == [end] else (end,)))
    return EncodedExample(input_ids=all_ids, labels=(IGNORED_LABEL, *all_ids[1:]))


def fit(
    encoded: Sequence[EncodedExample], *, max_length: int, on_long: OnLong
) -> EncodedConversations:
    """Those that have no more than so many tokens, or are cut to that, and something to learn."""
    num_long = sum(len(one) > max_length for one in encoded)
    is_cut = on_long == "truncate"
    kept = [
        (place, one.up_to(max_length))
        for place, one in enumerate(encoded)
        if is_cut or len(one) <= max_length
    ]
    learnt = {place: one for place, one in kept if one.num_learnt}
    counts = EncodingCounts(
        num_rows=len(encoded),
        num_long=num_long,
        num_without_answer=len(kept) - len(learnt),
        num_tokens=sum(map(len, learnt.values())),
        num_learnt_tokens=sum(one.num_learnt for one in learnt.values()),
    )
    return EncodedConversations(examples=list(learnt.values()), places=list(learnt), counts=counts)


def _tell(counts: EncodingCounts, max_length: int, on_long: OnLong) -> None:
    """Log how many are left out or cut.

    Raises
    ------
    DataError
        If none is left.
    """
    if not counts.num_tokens:
        raise DataError(
            f"none of {counted(counts.num_rows, 'row')} is left: {counts.num_long} too long, with "
            f"more than {max_length} tokens; raise the sequence length"
        )
    if counts.num_long:
        logger.warning(
            "too long: %s of %s, with more than %s tokens, %s",
            counts.num_long,
            counted(counts.num_rows, "row"),
            max_length,
            "cut" if on_long == "truncate" else "left out",
        )
    if counts.num_without_answer:
        logger.warning(
            "without anything to learn: %s of %s, left out",
            counts.num_without_answer,
            counted(counts.num_rows, "row"),
        )
