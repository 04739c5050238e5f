"""What ``hsplit data`` finds in a file."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ..data import EncodedExample
from ..data.chat import (
    ChatTemplate,
    Conversation,
    EncodedConversations,
    load_conversations,
)
from ..data.chat.encode import fit, tokenise
from ..data.chat.problems import Problems
from ..data.chat.row_format import RowFormat
from ..settings import Chat, Model, Training
from ..splitting import load_tokenizer
from .options import Chosen

MOST_PROBLEMS = 10
"""Of bad rows that are told in words; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class DataFound:
    """The rows of a file as a run would read them.

    Attributes
    ----------
    file
        As it was typed.
    conversations, encoded
        All rows, and the same in tokens, however long.
    fitted
        Those that would be trained on, and what becomes of the others.
    max_length, on_long
        The longest row that a run takes, and what it does with longer ones.
    tokenizer, template
        That they are written with.
    """

    file: str
    conversations: list[Conversation]
    encoded: list[EncodedExample]
    fitted: EncodedConversations
    max_length: int
    on_long: str
    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate


def read_data(file: str, chosen: Chosen) -> DataFound:
    """Read a file as a run with these settings would.

    Raises
    ------
    DataError
        Naming rows that cannot be read, by their lines: the first ones, and how many there are.
    UnsupportedModelError
        If the model has no tokenizer.
    """
    chat, model, training = chosen[Chat], chosen[Model], chosen[Training]
    tokenizer = load_tokenizer(model.name, revision=model.revision or None)
    problems = Problems(file, MOST_PROBLEMS)
    rows = RowFormat.of(chat.format, chat.columns)
    conversations = load_conversations(file, rows, problems=problems)
    encoded = tokenise(conversations, tokenizer, learn=chat.learn, problems=problems)
    return DataFound(
        file=file,
        conversations=conversations,
        encoded=encoded,
        fitted=fit(encoded, max_length=training.sequence_length, on_long=chat.on_long),
        max_length=training.sequence_length,
        on_long=chat.on_long,
        tokenizer=tokenizer,
        template=ChatTemplate(tokenizer),
    )
