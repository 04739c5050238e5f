"""A conversation, or a text without turns, as it is learnt from."""

from dataclasses import dataclass, field

from ..partition import MISSING_LABEL

ASSISTANT = "assistant"
ROLES = ("system", "developer", "user", ASSISTANT, "tool")


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn: who says it, one of `ROLES`, and what."""

    role: str
    content: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """The turns of a conversation, the last one an assistant's; or a text, and no turns.

    Attributes
    ----------
    messages
        The turns; none where it is a text.
    text
        All of it, which is learnt from its beginning to its end.
    place
        File and line that it was read from, for messages.
    group
        What a set is divided among clients by.
    """

    messages: tuple[Message, ...] = ()
    text: str = field(default="", repr=False)
    place: str = ""
    group: str = MISSING_LABEL
