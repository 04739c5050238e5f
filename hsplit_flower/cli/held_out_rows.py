"""The conversations that a model is measured on: of a set, those that a run holds out of it."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ..data import thinned
from ..data.chat import (
    EncodedConversations,
    encode_conversations,
    held_out_split,
    load_conversations,
)
from ..data.chat.load import is_conversations
from ..data.chat.row_format import RowFormat
from ..data.dataset import is_references
from ..settings import Chat

HELD_OUT, ALL = "held-out", "all"
"""Which rows of a set: those that no client of a run trains on, or every one."""


@dataclass(frozen=True, kw_only=True)
class HeldOutRows:
    """Rows of a set in tokens, labelled where something is learnt.

    Attributes
    ----------
    num_rows
        Of the whole set.
    encoded
        Those that are measured on, and what became of the others that were chosen.
    """

    num_rows: int
    encoded: EncodedConversations


def are_conversations(dataset: str, *, otherwise: bool) -> bool:
    """Whether a set holds conversations, and not inputs with references.

    Parameters
    ----------
    dataset
        What it is called.
    otherwise
        What is taken where that does not say it: a hub id may be of either.
    """
    return is_conversations(dataset) or (otherwise and not is_references(dataset))


def read_held_out(
    dataset: str,
    tokenizer: PreTrainedTokenizerBase,
    chat: Chat,
    *,
    max_length: int,
    split: str = HELD_OUT,
    most: int | None = None,
) -> HeldOutRows:
    """Read a set as a run with these settings would, and take what it would measure on.

    Parameters
    ----------
    dataset
        ``help-desk``, a file, or a hub id.
    tokenizer, chat, max_length
        Of the run: how rows are read, how many are held out, and how long they may be.
    split
        `HELD_OUT` or `ALL`.
    most
        At most so many rows, taken evenly; None takes all.

    Raises
    ------
    DataError
        If the set cannot be read, or has nothing to measure on. A bad row is named by its line.
    """
    rows = load_conversations(dataset, RowFormat.of(chat.format, chat.columns))
    chosen = rows if split == ALL else held_out_split(rows, chat.held_out_share)[1]
    return HeldOutRows(
        num_rows=len(rows),
        encoded=encode_conversations(
            thinned(chosen, most or len(chosen)),
            tokenizer,
            max_length=max_length,
            learn=chat.learn,
            on_long=chat.on_long,
        ),
    )
