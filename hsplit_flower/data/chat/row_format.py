"""What a row's columns mean: a conversation of messages, a question and its answer, or a text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ...errors import ConfigError, DataError
from ...rows import RowFormatName, names_told
from ...sizes import counted
from ..partition import MISSING_LABEL
from .conversation import ASSISTANT, ROLES, Conversation, Message
from .row import Row

FORMATS: Mapping[RowFormatName, tuple[str, ...]] = MappingProxyType(
    {
        "messages": ("messages",),
        "prompt": ("prompt", "completion"),
        "instruction": ("instruction", "output"),
        "text": ("text",),
    }
)
"""The columns that each format must have. The first whose columns are all there is recognised."""

_OPTIONAL = ("input", "role", "content")
COLUMNS = (*(column for columns in FORMATS.values() for column in columns), *_OPTIONAL)
OTHER_ROLES = MappingProxyType({"human": "user", "gpt": ASSISTANT, "model": ASSISTANT})
"""How some sets call those that are in a conversation."""


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """How rows are read.

    Attributes
    ----------
    name
        One of `FORMATS`; None is recognised by the columns of each row.
    columns
        What the set calls a column of ours, where it has another name: ``{"prompt": "question"}``.
        ``role`` and ``content`` are the keys of a message.
    group_by
        The column that a set is divided among clients by; empty where it is not.
    """

    name: RowFormatName | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    group_by: str = ""

    def __post_init__(self) -> None:
        problems = []
        if self.name and self.name not in FORMATS:
            problems.append(f"there is no format {self.name!r}; wanted one of {list(FORMATS)}")
        problems += [
            f"there is no column {ours!r} to call otherwise; wanted one of {list(COLUMNS)}"
            for ours in self.columns
            if ours not in COLUMNS
        ]
        if problems:
            raise ConfigError("; ".join(problems))

    @classmethod
    def of(
        cls, name: RowFormatName | None, renamed: Iterable[str], group_by: str = ""
    ) -> "RowFormat":
        """The format that settings say; a column of another name is ``ours=theirs``.

        Raises
        ------
        ConfigError
            If a name is unknown, or is not put so.
        """
        pairs = [pair.partition("=") for pair in renamed]
        if wrong := [ours for ours, sign, theirs in pairs if not (ours and sign and theirs)]:
            raise ConfigError(
                f"columns has {wrong}: ours=theirs is wanted, such as prompt=question, completion="
                "answer"
            )
        names = {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
        return cls(name=name, columns=names, group_by=group_by)

    def recognised(self, row: Row) -> RowFormatName:
        """Which of `FORMATS` a row has, as its columns say.

        Raises
        ------
        DataError
            If it has none of them, or not the one that is named.
        """
        there = set(row.values)
        wanted = {self.name: FORMATS[self.name]} if self.name else FORMATS
        for name, ours in wanted.items():
            if all(self._theirs(column) in there for column in ours):
                return name
        said = ", or ".join(
            " and ".join(self._theirs(column) for column in ours) for ours in wanted.values()
        )
        raise DataError(
            f"{row.place} has {counted(len(there), 'column')}{row.taken_as_names}: what is wanted "
            f"is {said}; name what is called otherwise with columns, such as "
            "messages=conversations, or prompt=question, completion=answer; what is there, hsplit "
            "data shows on a terminal",
            private_detail=row.columns_found,
        )

    def conversation(self, row: Row) -> Conversation:
        """What a row holds.

        Raises
        ------
        DataError
            Naming its file and line, and what of it is missing, empty or no text.
        """
        name = self.recognised(row)
        group = row.values.get(self.group_by, MISSING_LABEL) if self.group_by else MISSING_LABEL
        if name == "text":
            text = self._text(row, "text")
            return Conversation(text=text, place=row.place, group=str(group))
        read = {
            "messages": self._messages,
            "prompt": self._prompt,
            "instruction": self._instruction,
        }
        messages = list(read[name](row))
        while messages and messages[-1].role != ASSISTANT:
            messages.pop()
        if not messages:
            raise DataError(f"{row.place} has no answer: a message of the assistant is wanted")
        return Conversation(messages=tuple(messages), place=row.place, group=str(group))

    def _theirs(self, column: str) -> str:
        return self.columns.get(column, column)

    def _messages(self, row: Row) -> Sequence[Message]:
        return self._turns(row, "messages")

    def _prompt(self, row: Row) -> Sequence[Message]:
        """Both are texts, or both lists of messages, as TRL has them."""
        asked, answer = ("prompt", "completion")
        if isinstance(row.values[self._theirs(asked)], list):
            return [*self._turns(row, asked), *self._turns(row, answer)]
        return _question(self._text(row, asked), self._text(row, answer))

    def _instruction(self, row: Row) -> Sequence[Message]:
        more = row.values.get(self._theirs("input"))
        told = [self._text(row, "instruction")]
        if more is not None and more != "":
            told.append(self._text(row, "input"))
        return _question("\n\n".join(told), self._text(row, "output"))

    def _text(self, row: Row, column: str) -> str:
        name = self._theirs(column)
        return _checked_text(row.values[name], f"{row.place}: {name}")

    def _turns(self, row: Row, column: str) -> list[Message]:
        name = self._theirs(column)
        turns = row.values[name]
        if not isinstance(turns, list):
            raise DataError(
                f"{row.place}: {name} is a {type(turns).__name__}: a list of messages is wanted"
            )
        return [
            self._message(turn, f"{row.place}: {name}, message {number}")
            for number, turn in enumerate(turns, start=1)
        ]

    def _message(self, turn: Any, place: str) -> Message:
        role_key, content_key = self._theirs("role"), self._theirs("content")
        if not isinstance(turn, dict):
            raise DataError(
                f"{place} is a {type(turn).__name__}: an object with {role_key} and {content_key} "
                "is wanted"
            )
        if not {role_key, content_key} <= set(turn):
            raise DataError(
                f"{place} has {counted(len(turn), 'key')}: {role_key} and {content_key} are "
                "wanted; name what is called otherwise with columns, such as role=from, "
                "content=value; what is there, hsplit data shows on a terminal",
                private_detail=names_told(turn),
            )
        role = turn[role_key]
        role = OTHER_ROLES.get(role, role) if isinstance(role, str) else role
        if role not in ROLES:
            raise DataError(f"{place}: {role_key} must be one of {', '.join(ROLES)}")
        return Message(
            role=role, content=_checked_text(turn[content_key], f"{place}: {content_key}")
        )


def _question(asked: str, answer: str) -> list[Message]:
    return [Message(role="user", content=asked), Message(role=ASSISTANT, content=answer)]


def _checked_text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{place} is a {type(value).__name__}: a text is wanted")
    if not value.strip():
        raise DataError(f"{place} is empty: fill it in or remove the row")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{place} has half of a character (a lone surrogate): write it anew")
    return value
