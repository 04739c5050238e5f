"""What may be said of a row of conversations, by settings and by what reads rows."""

from typing import Literal

RowFormatName = Literal["messages", "prompt", "instruction", "text"]
"""What a row of a file of conversations is."""

Learn = Literal["answers", "last-answer", "everything"]
"""What is learnt of a conversation."""

OnLong = Literal["drop", "truncate", "error"]
"""What becomes of rows with too many tokens."""
