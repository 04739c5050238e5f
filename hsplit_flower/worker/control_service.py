"""The strategy's side of a worker that runs in a process of its own, over gRPC."""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import (
    AuthenticationError,
    CodecError,
    WorkerRejectedError,
    WorkerUnavailableError,
)
from ..settings import SessionSpec
from ..transport.credentials import OPERATOR_TOKEN_KEY, is_same_token
from ..transport.gate import (
    LAST_WORD_SECONDS,
    Behaviour,
    Call,
    Guarded,
    next_message,
    token_in,
)
from ..transport.guesses import Guesses
from ..wire.factors import factors_from_wire, factors_to_wire
from ..wire.form import from_text, to_text
from ..wire.parsing import parsed
from ..wire.proto.split_pb2 import (
    CollectReply,
    Empty,
    Factors,
    Form,
    SessionSummary,
    SessionTicket,
)
from ..wire.work_done import work_to_wire
from .calls import CallThreads
from .worker import SplitWorker

logger = logging.getLogger(__name__)

_PATH = "/hsplit.v1.WorkerControl/"
WRITERS_MAY = ("Describe", "Open", "Close")
"""What the writers' token opens; and of sessions only those that write."""

Message = TypeVar("Message")


class ControlService:
    """What whoever has the operator's token may ask of a worker.

    Parameters
    ----------
    worker
        What answers.
    threads
        Where calls wait for it.
    operator_token
        Opens every method.
    max_message_bytes
        Nothing larger is sent.
    writer_token
        Opens sessions that write texts, and nothing else; empty for none.
    """

    def __init__(
        self,
        worker: SplitWorker,
        threads: CallThreads,
        operator_token: str,
        *,
        max_message_bytes: int,
        writer_token: str = "",
    ) -> None:
        self._worker = worker
        self._writer_token = writer_token
        self._threads = threads
        self._operator_token = operator_token
        self._max_message_bytes = max_message_bytes

    def methods(self) -> dict[str, Guarded]:
        """What a gate is to let the operator in to."""
        guesses = Guesses()
        behaviours: dict[str, Behaviour] = {
            "Describe": self._describe,
            "LoadUpdate": self._load_update,
            "Open": self._open,
            "Steps": self._steps,
            "Collect": self._collect,
            "Close": self._close,
        }
        return {
            _PATH + name: Guarded(
                behaviour=behaviour,
                token_key=OPERATOR_TOKEN_KEY,
                admit=self._admit_writer if name in WRITERS_MAY else self._admit,
                guesses=guesses,
            )
            for name, behaviour in behaviours.items()
        }

    def _admit(self, token: str) -> None:
        if not is_same_token(token, self._operator_token):
            raise AuthenticationError("the operator token is missing or wrong")

    def _admit_writer(self, token: str) -> None:
        if not self._writer_token or not is_same_token(token, self._writer_token):
            self._admit(token)

    def _check_purpose(self, call: Call, spec: SessionSpec) -> None:
        """Refuse a writer that asks for anything else."""
        token = token_in(call.invocation_metadata(), OPERATOR_TOKEN_KEY)
        if not spec.writes and not is_same_token(token, self._operator_token):
            raise WorkerRejectedError(
                f"the writers' token opens no session to {spec.purpose}: the operator's is wanted"
            )

    async def _describe(self, call: Call) -> None:
        await _only_message(call, Empty)
        await _write(call, Form(text=to_text(self._worker.describe())))

    async def _load_update(self, call: Call) -> None:
        loop = asyncio.get_running_loop()

        def messages() -> Iterator[Factors]:
            """Read by the thread that joins them, one at a time."""
            while True:
                read = asyncio.run_coroutine_threadsafe(next_message(call), loop)
                if (message := read.result()) is None:
                    return
                yield parsed(Factors, message)

        updates = await self._threads.wait_for(lambda: factors_from_wire(messages()))
        # Requests end in the same way when their call is cut off; it is heard of a moment later.
        await asyncio.sleep(LAST_WORD_SECONDS)
        await self._threads.wait_for(lambda: self._worker.load_update(updates))
        await _write(call, Empty())

    async def _open(self, call: Call) -> None:
        request = await _only_message(call, Form)
        spec = from_text(SessionSpec, request.text)
        self._check_purpose(call, spec)
        opening: Future[str] = Future()

        def open_session() -> str:
            try:
                opening.set_result(self._worker.open(spec))
            except BaseException as error:
                opening.cancel()
                raise error
            return opening.result()

        try:
            token = await self._threads.wait_for(open_session)
        except asyncio.CancelledError:
            # Whoever asked for it waits no longer; it may be opened in this moment.
            opening.add_done_callback(self._close_again)
            raise
        if call.cancelled():
            self._worker.close(token)
            raise WorkerUnavailableError("whoever asked for the session waits no longer")
        logger.info("client %s may %s, cut at block %s", spec.shown_client, spec.purpose, spec.cut)
        await _write(call, SessionTicket(token=token))

    def _close_again(self, opening: "Future[str]") -> None:
        if not opening.cancelled():
            self._worker.close(opening.result())

    async def _steps(self, call: Call) -> None:
        await _only_message(call, Empty)
        await _write(call, work_to_wire(self._worker.work_done()))

    async def _collect(self, call: Call) -> None:
        request = await _only_message(call, SessionTicket)
        result = await self._threads.wait_for(lambda: self._worker.collect(request.token))
        client = self._worker.spec_of(request.token).shown_client
        logger.info("client %s took %s steps", client, result.num_steps)
        factors = factors_to_wire(result.updates, max_message_bytes=self._max_message_bytes)
        while (some := await self._threads.wait_for(lambda: next(factors, None))) is not None:
            await _write(call, CollectReply(factors=some))
        summary = SessionSummary(num_steps=result.num_steps, importance=dict(result.importance))
        await _write(call, CollectReply(summary=summary))

    async def _close(self, call: Call) -> None:
        request = await _only_message(call, SessionTicket)
        await self._threads.wait_for(lambda: self._worker.close(request.token))
        await _write(call, Empty())


async def _only_message(call: Call, kind: type[Message]) -> Message:
    """The message of a call that has one."""
    message = await next_message(call)
    if message is None:
        raise CodecError(f"the call has no message: one {kind.__name__} is wanted")
    return parsed(kind, message)


async def _write(call: Call, message: Any) -> None:
    await call.write(message.SerializeToString())
