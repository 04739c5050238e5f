"""A round's messages: written when their sessions are open, and once more if a worker dies.

A client whose session went with its worker begins the round anew on another: its message goes out
a second time, with the address and the token of a new session. What the others have done stays.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from logging import WARNING

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from ..errors import HSplitError
from ..types import LONGEST_ROUND_SECONDS
from ..wire.instructions import INSTRUCTIONS_KEY, Instructions
from .worker_sessions import WorkerSessions


@dataclass(frozen=True, kw_only=True)
class PendingMessage:
    """A message to a client, but for where its session is and how long it may wait for its turn.

    Attributes
    ----------
    order
        What it is to do; its time is filled in before its session is opened, address and token
        after.
    load
        What a step of it takes of a worker.
    arrays, config
        The adapter below its cut, and the user's own config, under their keys.
    """

    order: Instructions
    load: float
    arrays: tuple[str, ArrayRecord]
    config: tuple[str, ConfigRecord]


class Dispatch:
    """Opens the sessions of a round and writes to its clients.

    Parameters
    ----------
    sessions
        Where sessions are opened, and which of them were lost.
    """

    def __init__(self, sessions: WorkerSessions) -> None:
        self._sessions = sessions
        self._letters: Mapping[int, PendingMessage] = {}
        self._message_type = ""
        self._grid: Grid | None = None
        self._deadline = 0.0
        self.moved: frozenset[int] = frozenset()

    def messages(
        self,
        pending: Mapping[int, PendingMessage],
        message_type: str,
        *,
        grid: Grid,
        timeout_seconds: float,
    ) -> list[Message]:
        """Open a session for each client and write its message.

        Parameters
        ----------
        pending
            By client.
        message_type
            Of all of them.
        grid, timeout_seconds
            What sends them, and how long clients have for their replies.
        """
        self._letters, self._message_type, self._grid = pending, message_type, grid
        self.moved = frozenset()
        written = self._written(pending, timeout_seconds)
        self._deadline = time.monotonic() + timeout_seconds
        return written

    def again(self, unfinished: Collection[int]) -> list[Message]:
        """Replies of those clients whose worker died, to their message sent once more.

        None if no worker died, none lives, or no time is left.

        Parameters
        ----------
        unfinished
            Clients whose reply, or whose session, could not be used.
        """
        lost = [client for client in self._sessions.lost(unfinished) if client in self._letters]
        left_seconds = self._deadline - time.monotonic()
        if not lost or self._grid is None or left_seconds <= 0.0:
            return []
        try:
            pending = {client: self._letters[client] for client in lost}
            messages = self._written(pending, left_seconds)
        except HSplitError as error:
            log(WARNING, "clients %s lost their worker and cannot be moved: %s", lost, error)
            return []
        log(WARNING, "clients %s lost their worker and begin the round anew on others", lost)
        self.moved |= frozenset(lost)
        return list(self._grid.send_and_receive(messages, timeout=left_seconds))

    def _written(
        self, pending: Mapping[int, PendingMessage], timeout_seconds: float
    ) -> list[Message]:
        patience_seconds = min(timeout_seconds, LONGEST_ROUND_SECONDS)
        specs = {
            client: replace(message.order.session, round_timeout_seconds=patience_seconds)
            for client, message in pending.items()
        }
        tickets = self._sessions.open_all(
            specs, {client: message.load for client, message in pending.items()}
        )
        messages = []
        for client, message in pending.items():
            ticket = tickets[client]
            told = replace(
                message.order, session=specs[client], address=ticket.address, token=ticket.token
            )
            records = (
                message.arrays,
                message.config,
                (INSTRUCTIONS_KEY, ConfigRecord(told.to_config())),
            )
            messages.append(
                Message(
                    content=RecordDict(dict(records)),
                    message_type=self._message_type,
                    dst_node_id=client,
                )
            )
        return messages
