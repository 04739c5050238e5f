"""Who is let in: looked at by a call's metadata, before anything of the call is spent on.

gRPC asks for the handler of a call when its headers have come, and reads a message only where a
handler asks for one. Whoever has no token is given a handler that asks for none.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio

from ..errors import HSplitError
from .guesses import Guesses
from .refusals import FAILED, Refusal, RefusalLog, let_go

logger = logging.getLogger(__name__)

# As long as it takes a call's end to be told to its handler, where reading ended before.
LAST_WORD_SECONDS = 0.02


class Call(Protocol):
    """One call, as its handler sees it: messages are bytes, read and written one at a time."""

    async def read(self) -> Any:
        """The next message, or gRPC's mark of the end."""

    async def write(self, message: bytes) -> None:
        """Send a message; comes back when there is room for another."""

    async def send_initial_metadata(self, initial_metadata: tuple[tuple[str, str], ...]) -> None:
        """Send what goes ahead of messages."""

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str], ...]
    ) -> None:
        """End the call with a status."""

    def peer(self) -> str:
        """The caller's address."""

    def cancelled(self) -> bool:
        """Whether the caller waits no longer."""

    def invocation_metadata(self) -> Any:
        """What the caller sent ahead."""


Behaviour = Callable[[Call], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A method, and what opens it.

    Attributes
    ----------
    behaviour
        Reads and writes the messages of a call that is let in.
    token_key
        Which entry of the metadata has the token.
    admit
        Raises an `HSplitError` for a token that does not open it; by default anybody is let in.
    guesses
        Slows down who guesses the token.
    """

    behaviour: Behaviour
    token_key: str = ""
    admit: Callable[[str], object] = bool
    guesses: Guesses | None = None


class Gate(grpc.GenericRpcHandler):  # type: ignore[misc]  # has no types
    """Picks the handler of each call.

    Parameters
    ----------
    methods
        By their paths, such as ``/hsplit.v1.SplitWorker/Exchange``. Others are not there.
    after_refusal
        Called when a call of somebody who was let in has been refused.
    """

    def __init__(self, methods: Mapping[str, Guarded], after_refusal: Callable[[], None]) -> None:
        self._methods = dict(methods)
        self._after_refusal = after_refusal
        self._log = RefusalLog()
        self._handlers = {
            path: _reading_nothing_itself(self._answering(guarded))
            for path, guarded in methods.items()
        }

    def service(self, handler_call_details: Any) -> Any:
        """The method's own handler, or one that refuses; None for a method that is not there."""
        guarded = self._methods.get(handler_call_details.method)
        if guarded is None:
            return None
        token = token_in(handler_call_details.invocation_metadata, guarded.token_key)
        try:
            guarded.admit(token)
        except HSplitError as error:
            # Whoever shows no token guesses none.
            guesses = guarded.guesses if token else None
            return _reading_nothing_itself(self._refusing(Refusal.of(error), guesses))
        return self._handlers[handler_call_details.method]

    def _refusing(self, refusal: Refusal, guesses: Guesses | None) -> Behaviour:
        async def refuse(call: Call) -> None:
            try:
                _count_guess(guesses, call, is_right=False)
            except HSplitError as error:
                await self._end(call, Refusal.of(error))
            await self._end(call, refusal)

        return refuse

    def _answering(self, guarded: Guarded) -> Behaviour:
        """The behaviour, whose errors end the call with a status.

        What is refused is logged. What is not ours is logged whole and not told to the caller.
        """

        async def answer(call: Call) -> None:
            try:
                _count_guess(guarded.guesses, call, is_right=True)
                await guarded.behaviour(call)
                return
            except grpc.aio.AbortError:
                raise
            except HSplitError as error:
                refusal = Refusal.of(error)
                let_go(error)
            except Exception as error:
                # A call that is over fails in many ways; then this is where its end is heard of.
                await asyncio.sleep(LAST_WORD_SECONDS)
                refusal = FAILED
                logger.exception("the split worker failed while it answered a call")
                let_go(error)
            self._after_refusal()
            await self._end(call, refusal)

        return answer

    async def _end(self, call: Call, refusal: Refusal) -> None:
        self._log.note(call.peer(), refusal.details)
        await _abort(call, refusal.code, refusal.details, refusal.trailers)


def _count_guess(guesses: Guesses | None, call: Call, *, is_right: bool) -> None:
    """Refuse whoever has guessed too often, also with the right token: it may have been found."""
    if guesses is not None:
        guesses.check(call.peer())
        guesses.note(call.peer(), is_right=is_right)


async def next_message(call: Call) -> bytes | None:
    """The next message of a call; None when no more will come."""
    message = await call.read()
    return None if message is grpc.aio.EOF else message


async def hang_up(call: Call, reason: str) -> None:
    """End a call from this side; the caller may make another one."""
    await _abort(call, grpc.StatusCode.CANCELLED, reason, ())


async def _abort(call: Call, code: grpc.StatusCode, details: str, trailers: Any) -> None:
    """End a call, which may have ended by itself."""
    try:
        await call.abort(code, details, trailers)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        logger.debug("a call was over before it was ended", exc_info=True)


def token_in(metadata: Any, key: str) -> str:
    """The token in a call's metadata; empty if there is none."""
    for name, value in metadata or ():
        if name == key and isinstance(value, str):
            return value
    return ""


def _reading_nothing_itself(behaviour: Behaviour) -> Any:
    """A handler of any method: calls with one message are streams of one."""

    async def handle(_: object, call: Call) -> None:
        await behaviour(call)

    return grpc.stream_stream_rpc_method_handler(handle)
