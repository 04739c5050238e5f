"""Bytes as messages of the protocol."""

from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from ..errors import CodecError

Message = TypeVar("Message")


def parsed(kind: type[Message], data: bytes) -> Message:
    """The message that bytes stand for.

    Raises
    ------
    CodecError
        If they stand for none.
    """
    reader: Any = kind
    try:
        message: Message = reader.FromString(data)
    except DecodeError:
        raise CodecError(f"{len(data)} bytes that are no {kind.__name__}") from None
    return message
