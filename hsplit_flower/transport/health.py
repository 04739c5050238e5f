"""The standard gRPC health service (grpc.health.v1), for supervisors and load balancers.

It answers ``Check`` alone, to anybody: a ``Watch`` would hold a stream for as long as its caller
likes.
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

CHECK = f"/{DESCRIPTOR.services_by_name['Health'].full_name}/Check"
NAMES = ("", *(each.full_name for each in split_pb2.DESCRIPTOR.services_by_name.values()))
"""What is asked about: the whole worker, or one of its services."""

MOST_CHECKS = 8
"""So many questions are read at a time, as anybody may ask them. One more ends the oldest of them:
whoever means it sends its question with the call, and need not wait behind those that never do.
"""
QUESTION_SECONDS = 5.0
"""How long a caller may take to send its question."""


class Health:
    """Whether a worker serves: yes until it is about to end."""

    def __init__(self) -> None:
        self._is_ending = threading.Event()
        self._reading: deque[asyncio.Future[bytes | None]] = deque()

    def methods(self) -> dict[str, Guarded]:
        """What a gate is to let anybody in to."""
        return {CHECK: Guarded(behaviour=self._check)}

    def end(self) -> None:
        """Say from now on that nobody should come any more."""
        self._is_ending.set()

    async def _check(self, call: Call) -> None:
        message = await self._question(call)
        name = parsed(HealthCheckRequest, message).service
        del message
        if name not in NAMES:
            await call.abort(
                grpc.StatusCode.NOT_FOUND, f"the services are {', '.join(NAMES[1:])}", ()
            )
        is_ending = self._is_ending.is_set()
        status = HealthCheckResponse.NOT_SERVING if is_ending else HealthCheckResponse.SERVING
        await call.write(HealthCheckResponse(status=status).SerializeToString())

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
