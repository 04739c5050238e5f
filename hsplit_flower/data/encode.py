"""Examples as token ids with labels on the reference's tokens and the end token.

The prompt and the reference are tokenised apart, so that the boundary between what is given and
what is learned never falls inside a token.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from ..errors import ConfigError, DataError
from ..types import IGNORED_LABEL
from .example import Example
from .prompts import format_prompt

OnLong = Literal["error", "drop"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EncodedExample:
    """Token ids and labels of one example, of the same length.

    A label is the id at the same position, or -100 where the model is not asked: labels are aligned
    with the ids, and the loss shifts them, as Hugging Face models do.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def num_learnt(self) -> int:
        """How many of its tokens are learnt: the first is predicted from nothing."""
        return sum(label != IGNORED_LABEL for label in self.labels[1:])

    def up_to(self, length: int) -> "EncodedExample":
        """Its first so many tokens."""
        if len(self) <= length:
            return self
        return EncodedExample(input_ids=self.input_ids[:length], labels=self.labels[:length])


def encode_examples(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    style: str = "plain",
    on_long: OnLong = "error",
) -> list[EncodedExample]:
    """The token ids of prompt, reference and end token, labelled from the reference on.

    A tokenizer that begins texts with a token of its own keeps doing so, before the prompt.

    Parameters
    ----------
    max_length
        The most tokens an example may have, the end token included.
    style
        The prompt format, a key of `PROMPT_STYLES`.
    on_long
        ``"error"`` refuses examples that are longer than `max_length`; ``"drop"`` leaves them out
        and logs how many. Nothing is cut off: half a reference would teach a model to stop early.

    Raises
    ------
    ConfigError
        If `style`, `on_long` or `max_length` is not one that there is.
    DataError
        If there are no examples, the tokenizer has no end token, or an example is too long
        (all of them, where they are dropped).
    """
    if on_long not in ("error", "drop"):
        raise ConfigError(f"on_long must be 'error' or 'drop', got {on_long!r}")
    if max_length < 1:
        raise ConfigError(f"max_length must be 1 or more, got {max_length}")
    if not examples:
        raise DataError("there are no examples to encode; wanted at least one")
    end = end_token_id(tokenizer)
    prompts = encode_prompts(examples, tokenizer, style=style)
    references = _token_ids(tokenizer, [example.reference for example in examples])
    encoded = [
        _labelled(prompt, (*reference, end))
        for prompt, reference in zip(prompts, references, strict=True)
    ]
    return _within(max_length, encoded, on_long)


def encode_prompts(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, *, style: str = "plain"
) -> list[tuple[int, ...]]:
    """The token ids that a model reads before it writes, those that `encode_examples` begins with.

    Raises
    ------
    ConfigError
        If there is no such style.
    """
    start = start_ids(tokenizer)
    texts = [format_prompt(example, style) for example in examples]
    return [(*start, *ids) for ids in _token_ids(tokenizer, texts)]


def end_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the token that ends a reference; `DataError` if the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"the tokenizer {tokenizer.name_or_path!r} has no end token; set its eos_token, "
            "in tokenizer_config.json or as tokenizer.eos_token"
        )
    return int(tokenizer.eos_token_id)


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills up short rows: the padding token, else the end token.

    The end token will do, since padded positions are masked and carry no label.
    """
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    if tokenizer.eos_token_id is not None:
        return int(tokenizer.eos_token_id)
    raise DataError(
        f"the tokenizer {tokenizer.name_or_path!r} has neither a padding token nor an end token; "
        "set its pad_token or eos_token, in tokenizer_config.json or on the tokenizer"
    )


def begins_texts(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts its begin token before a text by itself."""
    begin = tokenizer.bos_token_id
    return begin is not None and list(tokenizer("")["input_ids"][:1]) == [begin]


def start_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """What the tokenizer puts before a text by itself: its begin token, or nothing."""
    return (int(tokenizer.bos_token_id),) if begins_texts(tokenizer) else ()


def _token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    distinct = list(dict.fromkeys(texts))  # in E2E, one prompt has eight references
    batch = tokenizer(
        distinct, add_special_tokens=False, return_attention_mask=False, verbose=False
    )
    ids: dict[str, list[int]] = dict(zip(distinct, batch["input_ids"], strict=True))
    return [ids[text] for text in texts]


def _labelled(prompt: tuple[int, ...], reference: tuple[int, ...]) -> EncodedExample:
    labels = (IGNORED_LABEL,) * len(prompt) + reference
    return EncodedExample(input_ids=prompt + reference, labels=labels)


def _within(
    max_length: int, encoded: list[EncodedExample], on_long: OnLong
) -> list[EncodedExample]:
    long = [index for index, example in enumerate(encoded) if len(example) > max_length]
    if not long:
        return encoded
    longest = max(long, key=lambda index: len(encoded[index]))
    found = (
        f"{len(long)} of {len(encoded)} examples are longer than max_length = {max_length} tokens "
        f"(example {longest} is the longest, with {len(encoded[longest])})"
    )
    if on_long == "error":
        raise DataError(f"{found}; raise max_length, or set on_long to 'drop' to leave them out")
    if len(long) == len(encoded):
        raise DataError(f"{found}, so none is left; raise max_length")
    logger.warning("%s; they are left out", found)
    return [example for example in encoded if len(example) <= max_length]
