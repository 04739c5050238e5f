"""Batches of what other libraries' scripts have: a data set of rows, and a collator.

A `torch.utils.data.DataLoader` gives batches itself, and is taken as it is. Here is what it leaves
to do: so many batches a round, other ones each round, of any data set that knows its length.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from ..errors import ConfigError, DataError
from ..rows import names_told
from ..sizes import counted
from .batches import batch_rows

MODEL_COLUMNS = frozenset(
    {
        *("input_ids", "labels", "attention_mask", "position_ids", "seq_lengths"),
        *("completion_mask", "assistant_masks", "special_tokens_mask"),
    }
)
"""Columns that collators make batches of; texts and the like, which they cannot pad, are not."""

Collator = Callable[[list[dict[str, Any]]], Mapping[str, Any]]
FormattingFunction = Callable[[Mapping[str, Any]], str | Sequence[str]]


class Rows(Protocol):
    """A `datasets.Dataset`, a `torch.utils.data.Dataset` with a length, or a list."""

    def __len__(self) -> int:
        """How many rows there are."""

    def __getitem__(self, index: int, /) -> Any:
        """One of them, a mapping."""


def collated(
    rows: Rows,
    collator: Collator,
    batch_size: int,
    *,
    steps: int | None = None,
    seed: int | Sequence[int] = 0,
) -> Iterator[Mapping[str, Any]]:
    """The batches of a round of training, or of one pass, as a collator makes them of rows.

    Rows are drawn as `batches` draws examples, and stripped of columns that are not
    `MODEL_COLUMNS`, as transformers' `Trainer` does.

    Parameters
    ----------
    rows
        With ``input_ids``, and what else the collator wants.
    collator
        Such as transformers' `DataCollatorForSeq2Seq`, or TRL's.
    steps
        How many batches to train on; ``None`` for one pass in the given order.
    seed
        One number or several, one of them the round's, each zero or more.

    Raises
    ------
    ConfigError
        If a number is out of range.
    DataError
        If there are no rows, or one has no ``input_ids``.
    """
    drawn = batch_rows(len(rows), batch_size, steps=steps, seed=seed)
    return (collator([_columns(rows, at) for at in group]) for group in drawn)


def formatted(
    rows: Rows,
    formatting_function: FormattingFunction,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
) -> list[dict[str, list[int]]]:
    """Rows of token ids, of the texts that a formatting function makes of a data set.

    Such a function is what TRL's `SFTTrainer` takes as ``formatting_func``: from a row to its text,
    or from columns of several rows to a list of their texts. As there, the tokenizer adds its own
    begin token, the end token is added where the text has none, and what is longer is cut.

    Parameters
    ----------
    max_length
        The most tokens of a row.

    Raises
    ------
    ConfigError
        If `max_length` is not positive.
    DataError
        If there are no rows, or the function gives no text.
    """
    if max_length < 1:
        raise ConfigError(f"max_length must be 1 or more, got {max_length}")
    if not len(rows):
        raise DataError("there are no rows to format; wanted at least one")
    end = tokenizer.eos_token or ""
    texts = _texts(rows, formatting_function)
    ended = [text if text.endswith(end) else text + end for text in texts]
    ids = tokenizer(ended, truncation=True, max_length=max_length)["input_ids"]
    return [{"input_ids": list(each), "attention_mask": [1] * len(each)} for each in ids]


def _columns(rows: Rows, at: int) -> dict[str, Any]:
    row = rows[at]
    if not isinstance(row, Mapping) or "input_ids" not in row:
        if not isinstance(row, Mapping):
            raise DataError(
                f"row {at} is a {type(row).__name__}: a mapping with input_ids is wanted; tokenise "
                "the rows first"
            )
        raise DataError(
            f"row {at} has no input_ids among its {counted(len(row), 'column')}; tokenise the rows "
            "first",
            private_detail=names_told(row),
        )
    return {name: value for name, value in row.items() if name in MODEL_COLUMNS}


def _texts(rows: Rows, function: FormattingFunction) -> Iterator[str]:
    """One for each row; what the function takes, the first row tells."""
    takes_columns = _takes_columns(function, rows[0])
    for at in range(len(rows)):
        row = rows[at]
        told = function(_as_columns(row))[0] if takes_columns else function(row)
        if not isinstance(told, str):
            raise DataError(
                f"row {at}: the formatting function does not give its text: a text, or for columns "
                "a list with a text for each row, is wanted"
            )
        yield told


def _takes_columns(function: FormattingFunction, row: Any) -> bool:
    """Whether it gives a list with one text for the columns of one row."""
    try:
        told = function(_as_columns(row))
    except Exception:  # a function of rows may fail with columns as it likes
        return False
    return isinstance(told, list) and len(told) == 1


def _as_columns(row: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in row.items()}
