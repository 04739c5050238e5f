"""How rows of conversations are read, and what of them is learnt."""

from ..rows import Learn, OnLong, RowFormatName
from .fields import setting
from .group import Settings


class Chat(Settings):
    """What a row is, and what becomes of it."""

    format: RowFormatName | None = setting(
        None,
        "What a row is: messages (roles), prompt and completion, instruction (input) and output, "
        "or text; where it is left out, the columns tell.",
    )
    columns: tuple[str, ...] = setting(
        (),
        "Columns that the set calls otherwise, as ours=theirs: prompt=question, "
        "completion=answer; role and content are the keys of a message.",
        wanted="names as ours=theirs, with commas between them",
    )
    learn: Learn = setting(
        "answers",
        "What is learnt of a conversation: the assistant's answers, the last-answer alone, or "
        "everything; of a text it is always everything.",
    )
    on_long: OnLong = setting(
        "drop",
        "What becomes of rows with more than training.sequence-length tokens: they are left out "
        "(drop), their end is cut off (truncate), or they are an error; the log says how many.",
    )
    packing: bool = setting(
        False,
        "Whether several rows are put into one of training.sequence-length tokens, each attending "
        "to itself alone; training.batch-size is of such rows then.",
    )
    held_out_share: float = setting(
        0.1,
        "About so much of a client's rows is kept from training, to measure on; a checksum of the "
        "text says which.",
        wanted="a number between 0 and 1",
        gt=0,
        lt=1,
    )
