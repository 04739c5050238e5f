"""The standard gRPC health service (grpc.health.v1), for supervisors and load balancers.

Anybody may ask, so that what a question holds is bounded.
"""

import asyncio
import threading
from collections import deque
from contextlib import suppress

import grpc
from grpc_health.v1.health_pb2 import DESCRIPTOR, HealthCheckRequest, HealthCheckResponse

from ..errors import WorkerUnavailableError
from ..wire.parsing import parsed
from ..wire.proto import split_pb2
from .gate import Call, Guarded, next_message

_PATH = f"/{DESCRIPTOR.services_by_name['Health'].full_name}"
CHECK, WATCH = f"{_PATH}/Check", f"{_PATH}/Watch"
NAMES = ("", *(each.full_name for each in split_pb2.DESCRIPTOR.services_by_name.values()))
"""What is asked about: the whole worker, or one of its services."""

MOST_CHECKS = 8
"""So many questions are read at a time, as anybody may ask them. One more ends the oldest of them:
whoever means it sends its question with the call, and need not wait behind those that never do.
"""
MOST_WATCHES = 8
"""So many callers are told of changes at a time. One more ends the oldest, as with questions."""
QUESTION_SECONDS = 5.0
"""How long a caller may take to send its question."""


class Health:
    """Whether a worker serves: yes until it is about to end."""

    def __init__(self) -> None:
        self._is_ending = threading.Event()
        self._reading: deque[asyncio.Future[bytes | None]] = deque()
        self._watching: deque[asyncio.Future[bool]] = deque()
        self._lock = threading.Lock()

    def methods(self) -> dict[str, Guarded]:
        """What a gate is to let anybody in to."""
        return {
            CHECK: Guarded(behaviour=self._check),
            WATCH: Guarded(behaviour=self._watch),
        }

    def end(self) -> None:
        """Say from now on that nobody should come any more."""
        self._is_ending.set()
        with self._lock:
            watching = list(self._watching)
        for told in watching:
            # A loop that is closed serves nobody who could be told.
            with suppress(RuntimeError):
                told.get_loop().call_soon_threadsafe(_tell, told, True)

    async def _check(self, call: Call) -> None:
        if await self._name(call) not in NAMES:
            await call.abort(
                grpc.StatusCode.NOT_FOUND, f"the services are {', '.join(NAMES[1:])}", ()
            )
        await call.write(_status(self._is_ending.is_set()))

    async def _watch(self, call: Call) -> None:
        """Tell what is so, and what has become of it when the worker is about to end."""
        is_known = await self._name(call) in NAMES
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        with self._lock:
            if len(self._watching) == MOST_WATCHES:
                _tell(self._watching.popleft(), False)
            self._watching.append(told)
            # Whoever is noted before the end begins is told of it, whatever is written meanwhile.
            is_ending = self._is_ending.is_set()
        try:
            unknown = HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
            first = _status(is_ending) if is_known else unknown.SerializeToString()
            await call.write(first)
            if is_ending:
                return
            if not await told:
                raise WorkerUnavailableError(
                    f"{MOST_WATCHES} other callers watch the health of this worker: ask with Check"
                )
            if is_known:
                await call.write(_status(True))
        finally:
            with self._lock, suppress(ValueError):
                self._watching.remove(told)

    async def _name(self, call: Call) -> str:
        """What is asked about."""
        return str(parsed(HealthCheckRequest, await self._question(call)).service)

    async def _question(self, call: Call) -> bytes:
        """The message of a call.

        Raises
        ------
        WorkerUnavailableError
            If it does not come in time, or others come first.
        """
        reading = asyncio.ensure_future(next_message(call))
        if len(self._reading) == MOST_CHECKS:
            self._reading.popleft().cancel()
        self._reading.append(reading)
        try:
            done, _ = await asyncio.wait({reading}, timeout=QUESTION_SECONDS)
            if not done or reading.cancelled():
                raise WorkerUnavailableError(
                    f"no HealthCheckRequest came within {QUESTION_SECONDS:g} s, or before those of "
                    f"{MOST_CHECKS} other calls"
                )
            return reading.result() or b""
        finally:
            reading.cancel()
            with suppress(ValueError):
                self._reading.remove(reading)


def _status(is_ending: bool) -> bytes:
    status = HealthCheckResponse.NOT_SERVING if is_ending else HealthCheckResponse.SERVING
    told: bytes = HealthCheckResponse(status=status).SerializeToString()
    return told


def _tell(told: "asyncio.Future[bool]", is_ending: bool) -> None:
    """To who watches: whether the worker is about to end, or else another takes its place."""
    if not told.done():
        told.set_result(is_ending)
