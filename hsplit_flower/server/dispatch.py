"""A round's messages: written when their sessions are open, and once more if a worker dies.

A client whose session went with its worker begins the round anew on another: its message goes out
a second time, with the address and the token of a new session. What the others have done stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from ..types import LONGEST_ROUND_SECONDS
from ..wire.instructions import INSTRUCTIONS_KEY, Instructions
from .sessions import Sessions


@dataclass(frozen=True, kw_only=True)
class PendingMessage:
    """A message to a client, but for where its session is and how long it may wait for its turn.

    Attributes
    ----------
    instructions
        What it is to do; its time is filled in before its session is opened, address, token and
        whom to trust after.
    load
        What a step of it takes of a worker.
    arrays, config
        The adapter below its cut, and the user's own config, under their keys.
    """

    instructions: Instructions
    load: float
    arrays: tuple[str, ArrayRecord]
    config: tuple[str, ConfigRecord]


@dataclass(frozen=True, kw_only=True)
class Written:
    """A message, and the address of the worker that its client's session is on."""

    message: Message
    worker: str


def written(
    pending: Mapping[int, PendingMessage],
    sessions: Sessions,
    *,
    message_type: str,
    timeout_seconds: float,
) -> dict[int, Written]:
    """Open a session for each client and write its message.

    Parameters
    ----------
    pending
        By client.
    sessions
        Where they are opened.
    message_type
        Of all of them.
    timeout_seconds
        How long clients have for their replies.
    """
    patience_seconds = min(timeout_seconds, LONGEST_ROUND_SECONDS)
    specs = {
        client: message.instructions.session.replace(round_timeout_seconds=patience_seconds)
        for client, message in pending.items()
    }
    tickets = sessions.open_all(specs, {client: one.load for client, one in pending.items()})
    messages = {}
    for client, message in pending.items():
        ticket = tickets[client]
        told = message.instructions.replace(
            session=specs[client],
            address=ticket.address,
            token=ticket.token,
            trust=ticket.trust,
        )
        records = (
            message.arrays,
            message.config,
            (INSTRUCTIONS_KEY, ConfigRecord(told.to_config())),
        )
        content = RecordDict(dict(records))
        messages[client] = Written(
            message=Message(content=content, message_type=message_type, dst_node_id=client),
            worker=ticket.address,
        )
    return messages
