"""A split worker in another process, as the strategy sees it: the same calls as a local one."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from ..adapters import LowRank
from ..errors import AuthenticationError, ConfigError, TransportError, WorkerUnavailableError
from ..settings import SessionSpec, Trust
from ..types import WorkerDescription
from ..wire.factors import SessionResult, factors_from_wire, factors_to_wire
from ..wire.form import from_text, to_text
from ..wire.proto.split_pb2 import (
    CollectReply,
    Empty,
    Factors,
    Form,
    SessionSummary,
    SessionTicket,
)
from ..wire.proto.split_pb2_grpc import WorkerControlStub
from ..wire.work_done import WorkDone, work_from_wire
from .channel import ChannelSettings, open_channel
from .credentials import OPERATOR_TOKEN_KEY, token_metadata
from .handshake import check_handshake, reachability
from .security import PLAIN, Security
from .silence import Silence
from .status import raised_as_ours

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

LOOK_SECONDS = 5.0
"""After so long it is looked whether what is waited for can come at all."""


class RemoteWorker:
    """Control of a worker at ``address``, by whoever knows its operator token.

    Every call has the settings' deadline; what fails raises the worker's own error. What a round
    asks for is asked for again, like a client's requests, if the worker does not answer: all of it
    may be done twice. A worker that was silent through all tries gets one each until it answers.

    Parameters
    ----------
    address
        ``host:port``.
    operator_token
        What it asks for.
    settings, security
        Of the channel to it.
    newer_security
        Gives what the channel is secured with by now, as its files may be others; it is asked
        before a round. None where nothing changes.
    waiting_seconds
        How long `describe` waits for it to be there; None for as long as an answer may take.
    """

    def __init__(
        self,
        address: str,
        operator_token: str,
        settings: ChannelSettings | None = None,
        security: Security = PLAIN,
        *,
        newer_security: Callable[[], Security] | None = None,
        waiting_seconds: float | None = None,
    ) -> None:
        self.address = address
        self._waiting_seconds = waiting_seconds
        self._settings = settings or ChannelSettings()
        self._newer_security = newer_security
        self._open(security)
        self._is_silent = False
        self._call = {
            "metadata": token_metadata(OPERATOR_TOKEN_KEY, operator_token),
            "timeout": self._settings.step_timeout_seconds,
        }

    @property
    def trust(self) -> Trust:
        """What clients are told of the channel to it."""
        return self.security.trust

    def describe(self) -> WorkerDescription:
        """What the worker holds and has; waits for it to be there."""
        self._take_up_certificates()
        seconds = self._waiting_seconds or self._settings.step_timeout_seconds
        end = time.monotonic() + seconds
        while True:
            look = {**self._call, "timeout": min(LOOK_SECONDS, max(0.1, end - time.monotonic()))}
            try:
                with raised_as_ours():
                    message = self._stub.Describe(Empty(), wait_for_ready=True, **look)
            except (WorkerUnavailableError, AuthenticationError) as error:
                # What certificates keep apart no waiting brings together.
                check_handshake(self.address, self.security)
                if isinstance(error, AuthenticationError):
                    raise
                if time.monotonic() >= end:
                    # Who says how long does not go by a run's settings.
                    longer = "" if self._waiting_seconds else "; link.patience-seconds waits longer"
                    raise WorkerUnavailableError(
                        f"no split worker at {self.address} within {seconds:g} s: "
                        f"{reachability(self.address)}. Is worker.address right, and is hsplit "
                        f"worker running there? It must be up before{longer}"
                    ) from error
            else:
                return from_text(WorkerDescription, message.text)

    def load_update(self, updates: Mapping[str, LowRank]) -> None:
        """Make ``updates`` the global adapter of the next sessions; those left open are closed."""
        self._take_up_certificates()
        limit = self._settings.max_message_bytes
        self._tried(
            lambda: self._stub.LoadUpdate(
                factors_to_wire(updates, max_message_bytes=limit), **self._call
            )
        )

    def open(self, spec: SessionSpec) -> str:
        """Open a session and give its token.

        If the token is lost on its way there is another session, until the next update is loaded.
        """
        message = Form(text=to_text(spec))
        return str(self._tried(lambda: self._stub.Open(message, **self._call)).token)

    def steps(self) -> dict[int, int]:
        """How many steps each open session has done, by client."""
        return dict(self.work_done().num_steps)

    def work_done(self) -> WorkDone:
        """How far all open sessions are."""
        with raised_as_ours():
            return work_from_wire(self._stub.Steps(Empty(), **self._call))

    def collect(self, token: str) -> SessionResult:
        """What a session has learnt so far."""
        ticket = SessionTicket(token=token)
        replies = self._tried(lambda: list(self._stub.Collect(ticket, **self._call)))
        summary = next((r.summary for r in replies if r.HasField("summary")), None)
        if summary is None:
            raise TransportError("the worker's report on a session ended before its summary")
        return _result(replies, summary)

    def close(self, token: str) -> None:
        """End a session."""
        self._tried(lambda: self._stub.Close(SessionTicket(token=token), **self._call))

    def stop(self) -> None:
        """Leave the worker to itself; it goes on serving."""
        self._channel.close()

    def _open(self, security: Security) -> None:
        self.security = security
        self._channel = open_channel(self.address, self._settings, security)
        self._stub = WorkerControlStub(self._channel)

    def _take_up_certificates(self) -> None:
        """Go on over a new channel where the files are others; the last good ones stay."""
        if self._newer_security is None:
            return
        try:
            security = self._newer_security()
        except ConfigError as error:
            logger.warning("the certificates in use stay, as the new ones are wrong: %s", error)
            return
        if security != self.security:
            # Not closed: another thread may be asking over it. It ends when nobody does.
            self._open(security)
            logger.info("new certificates are taken up towards %s", self.address)

    def _tried(self, call: Callable[[], Answer]) -> Answer:
        """What a call that may be made twice gives, at one of several tries."""
        once = replace(self._settings, num_tries=1, patience_seconds=0.0)
        silent = Silence(once if self._is_silent else self._settings)
        while silent.tries_again():
            try:
                with raised_as_ours():
                    answer = call()
            except AuthenticationError:
                # gRPC itself says so of a certificate for another host.
                check_handshake(self.address, self.security)
                raise
            except WorkerUnavailableError as error:
                silent.goes_on(error)
                check_handshake(self.address, self.security)
            else:
                self._is_silent = False
                return answer
        self._is_silent = True
        assert silent.failure is not None
        raise silent.failure


def _result(replies: list[CollectReply], summary: SessionSummary) -> SessionResult:
    def factors() -> Iterator[Factors]:
        return (reply.factors for reply in replies if reply.HasField("factors"))

    return SessionResult(
        num_steps=summary.num_steps,
        updates=factors_from_wire(factors()),
        importance=dict(summary.importance),
    )
