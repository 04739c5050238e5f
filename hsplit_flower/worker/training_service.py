"""The clients' side of a worker over gRPC: check the token, decode, answer, encode."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager

from ..errors import WorkerRejectedError, WorkerUnavailableError
from ..settings import SessionSpec
from ..transport.credentials import SESSION_TOKEN_KEY
from ..transport.gate import Call, Guarded, hang_up, next_message, token_in
from ..transport.grpc_stream import EXCHANGE
from ..transport.traffic import TrafficMeter
from ..wire.message_size import tensor_bytes
from ..wire.messages import Reply, Request, reply_to_wire, request_from_wire
from ..wire.parsing import parsed
from ..wire.proto.split_pb2 import StepRequest
from .admission import check_message, check_shape
from .calls import CallThreads
from .stream_handler import StreamHandler
from .worker import SplitWorker

logger = logging.getLogger(__name__)

MOST_CALLS = 8
"""Of one session, those counted that are ended here while their client has not heard of it."""


class TrainingService:
    """One stream a session, the newest.

    A client that sends nothing, or takes no reply, for too long loses its stream.

    Parameters
    ----------
    worker
        What answers.
    threads
        Where messages are decoded and encoded.
    patience_seconds
        How long a reply may wait to be taken, or a stream be without a request.
    """

    def __init__(
        self, worker: SplitWorker, threads: CallThreads, *, patience_seconds: float
    ) -> None:
        self._worker = worker
        self._threads = threads
        self._patience_seconds = patience_seconds
        self._num_calls: dict[str, int] = {}

    def methods(self) -> dict[str, Guarded]:
        """What a gate is to let clients in to."""
        admit = self._worker.spec_of
        guarded = Guarded(
            token_key=SESSION_TOKEN_KEY, admit=admit, behaviour=self._counted_exchange
        )
        return {EXCHANGE: guarded}

    async def _counted_exchange(self, call: Call) -> None:
        token = token_in(call.invocation_metadata(), SESSION_TOKEN_KEY)
        with self._counted(token):
            # Ahead of the first reply, so that the call can be ended while that is not taken; and
            # of all that may cancel this: gRPC sends it once, and no end before it is sent.
            await call.send_initial_metadata(())
            try:
                await self._exchange(call, token)
            except _HungUpError as error:
                # Told here, inside of the count: a client that takes nothing keeps this waiting.
                await hang_up(call, str(error))

    @contextmanager
    def _counted(self, token: str) -> Iterator[None]:
        """One of its session's calls, until nothing of it is left."""
        count = self._num_calls.get(token, 0)
        if count >= MOST_CALLS:
            raise WorkerRejectedError(
                f"{count} streams of this session are open or wait to be taken leave of, no more "
                "are allowed: read from them, or end them"
            )
        self._num_calls[token] = count + 1
        try:
            yield
        finally:
            self._num_calls[token] -= 1
            if not self._num_calls[token]:
                del self._num_calls[token]
                self._threads.trim_soon()

    async def _exchange(self, call: Call, token: str) -> None:
        """One session's exchange, a reply for every request."""
        async with self._held(token):
            # Once more: it may have been closed before its stream was held, unheard.
            spec, meter = self._worker.spec_of(token), self._worker.meter_of(token)
            handler = StreamHandler(
                lambda: _counted(next_message(call), meter),
                lambda message: self._decoded(message, spec),
                lambda request: self._answered(token, request),
                granted=spec.max_unanswered,
                patience_seconds=self._patience_seconds,
            )
            async with aclosing(handler.replies()) as replies:
                async for reply in replies:
                    message = await self._encoded(reply, spec)
                    with self._ended_if_not_taken(spec):
                        await call.write(message)
                    meter.received(len(message))
            if handler.saw_goodbye:
                self._worker.say_goodbye(token)

    @asynccontextmanager
    async def _held(self, token: str) -> AsyncIterator[None]:
        """Hold the session's line; whoever takes it, or closes the session, ends what is inside."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        is_hung_up = False

        def end() -> None:
            nonlocal is_hung_up
            is_hung_up = True
            loop.call_soon_threadsafe(task.cancel)

        try:
            with self._worker.streams.held(token, end):
                yield
        except asyncio.CancelledError:
            if not is_hung_up:
                raise
            raise _HungUpError(
                "the session has a newer stream, or was closed: this one is ended"
            ) from None

    async def _decoded(self, message: bytes, spec: SessionSpec) -> Request | None:
        """The request of a message, sizes looked at before anything is made of them."""
        architecture = self._worker.architecture

        def decode() -> Request | None:
            request = parsed(StepRequest, message)
            if request.HasField("goodbye"):
                return None
            return request_from_wire(request, lambda shape: check_shape(shape, spec, architecture))

        check_message(len(message), spec, architecture)
        return await self._threads.convert(len(message), decode)

    async def _answered(self, token: str, request: Request) -> Reply:
        submitted = await self._threads.convert(
            tensor_bytes(request), lambda: self._worker.submit(token, request)
        )
        return await asyncio.wrap_future(submitted)

    async def _encoded(self, reply: Reply, spec: SessionSpec) -> bytes:
        def encode() -> bytes:
            message = reply_to_wire(reply, spec.wire_type, spec.wire_gradient_type)
            return bytes(message.SerializeToString())

        return await self._threads.convert(tensor_bytes(reply), encode)

    @contextmanager
    def _ended_if_not_taken(self, spec: SessionSpec) -> Iterator[None]:
        """Give up on a client that does not take the reply that is sent inside."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        is_late = False

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            task.cancel()

        timer = loop.call_later(self._patience_seconds, give_up)
        try:
            yield
        except asyncio.CancelledError:
            if not is_late:
                raise
            logger.warning(
                "client %s took no reply for %g s: its stream is ended",
                spec.shown_client,
                self._patience_seconds,
            )
            raise _HungUpError(
                f"no reply was taken for {self._patience_seconds:g} s: the stream is ended"
            ) from None
        finally:
            timer.cancel()


async def _counted(read: Awaitable[bytes | None], meter: TrafficMeter) -> bytes | None:
    """The next message, which its client has sent."""
    message = await read
    if message is not None:
        meter.sent(len(message))
    return message


class _HungUpError(WorkerUnavailableError):
    """The stream is ended from this side."""
