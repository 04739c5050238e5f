"""The split worker: one half of the model, its sessions, and the thread that runs them."""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace

from ..adapters import LowRank
from ..errors import WorkerUnavailableError
from ..settings import SessionSpec
from ..splitting import Architecture, Half
from ..splitting.base_reading import digest_of_half
from ..transport.traffic import TrafficMeter
from ..types import WorkerDescription
from ..wire.base_text import base_to_text
from ..wire.factors import SessionResult
from ..wire.fingerprint import check_same_adapter, fingerprint_of_updates
from ..wire.messages import Reply, Request
from ..wire.work_done import WorkDone
from .admission import check_content
from .batch_limits import limits_for
from .demand import demand_of
from .executor import Executor
from .scheduler import Limits
from .session import Session, Sessions, key_of
from .stage import Stage
from .stream_registry import StreamRegistry
from .writing_admission import check_room
from .writing_session import WritingSession

logger = logging.getLogger(__name__)

DRAINING_PAUSE_SECONDS = 0.02


class SplitWorker:
    """Everything a worker does, whoever asks: the gRPC service, or the strategy in its process.

    Parameters
    ----------
    half
        The blocks above the lowest cut, with norm and head.
    model
        What the half was loaded from, to be told to who asks.
    memory_bytes, flops_per_second
        What the worker's device has, to be planned with; of its memory, what the half leaves.
    sessions
        The registry; its limits are the worker's.
    limits
        What a batch of several sessions' steps may be; by default what the global update and the
        open sessions leave room for.
    max_sessions_per_pass
        How many sessions' steps such a batch has at most, as `settings.Worker` has it.
    max_message_bytes
        What it is served with, to be told to who asks; 0 where it is not, or by others.

    Attributes
    ----------
    streams
        The streams that its sessions are reached by.
    """

    def __init__(
        self,
        half: Half,
        *,
        model: str,
        memory_bytes: float,
        flops_per_second: float,
        sessions: Sessions | None = None,
        limits: Limits | None = None,
        max_sessions_per_pass: int = 0,
        max_message_bytes: int = 0,
    ) -> None:
        self.streams = StreamRegistry()
        self._is_ending = False
        self._adapter = ""
        self._stage = Stage(half)
        self._sessions = Sessions() if sessions is None else sessions
        self._takes_what_is_left = limits is None
        self._max_sessions_per_pass = max_sessions_per_pass
        self._executor = Executor(run_together=self._stage.handle_together, limits=limits)
        self._description = WorkerDescription(
            model=model,
            num_blocks=half.architecture.num_blocks,
            lowest_cut=half.parts.span.start,
            memory_bytes=memory_bytes,
            flops_per_second=flops_per_second,
            dtype=half.numbers,
            max_sessions=self._sessions.max_sessions,
            base=base_to_text(digest_of_half(half)),
            max_message_bytes=max_message_bytes,
            instance=secrets.token_hex(8),
        )
        self._limit_batches()

    @property
    def architecture(self) -> Architecture:
        """The model's."""
        return self._stage.half.architecture

    def when_dead(self, tell: Callable[[str], object]) -> None:
        """Have somebody told, with the reason, should the thread die that runs the sessions."""
        self._executor.when_dead(tell)

    def refuse_all(self, reason: str) -> None:
        """Refuse all that waits and all that comes: nobody can reach this worker any more."""
        self._executor.refuse_all(reason)

    def describe(self) -> WorkerDescription:
        """What this worker holds and has.

        Raises
        ------
        WorkerUnavailableError
            If it is stopping, or a thread died that serves: it is asked to find that out, too.
        """
        self._executor.check_running()
        return replace(self._description, adapter=self._adapter)

    def load_update(self, updates: Mapping[str, LowRank]) -> None:
        """Make ``updates`` the global adapter that the next sessions start from.

        Whoever asks is told which one it is. Sessions that are open share what changes. They are of
        a round that is over, if its end came through or not, and are closed.
        """
        fingerprint = fingerprint_of_updates(updates)
        self._executor.call(lambda: self._load(updates, fingerprint))
        self._limit_batches()

    def _load(self, updates: Mapping[str, LowRank], fingerprint: str) -> None:
        """In the executor's thread, so that no session is opened meanwhile.

        One whose opening waits before this is open by now, and closed; one whose opening waits
        behind it starts from these.
        """
        left = self._sessions.remove_all()
        for token in left:
            self.streams.end(token)
        if left:
            clients = ", ".join(sorted(left.values()))
            logger.warning("closed the sessions that were left open, of clients %s", clients)
        self._stage.load_update(updates)
        self._adapter = fingerprint

    def open(self, spec: SessionSpec) -> str:
        """Open a session and give its token.

        Raises
        ------
        WorkerUnavailableError
            If this worker is about to end.
        AdapterError
            If the session's client says that it has a part of another adapter.
        """
        if self._is_ending:
            raise WorkerUnavailableError("the split worker is ending: it opens no more sessions")
        token = self._executor.call(lambda: self._opened(spec))
        self._limit_batches()
        return token

    def _opened(self, spec: SessionSpec) -> str:
        """In the executor's thread, so that no other session is opened meanwhile."""
        if spec.adapter is not None:
            check_same_adapter(self._adapter, spec.adapter)
        session = self._stage.open(spec)
        if spec.writes:
            memory_bytes = self._description.memory_bytes - self._stage.update_bytes
            taken_bytes = self._sessions.held_bytes(of=WritingSession)
            num_open = sum(other.spec.writes for other in self._sessions.open_ones())
            check_room(spec, session.held_bytes, taken_bytes, memory_bytes, num_open)
        return self._sessions.add(session)

    def exchange(self, token: str | None, request: Request) -> Reply:
        """Answer one request of the session that the token names."""
        return self.submit(token, request).result()

    def submit(self, token: str | None, request: Request) -> "Future[Reply]":
        """Have a request answered, after those that the session has submitted before.

        What does not fit the model or the session is refused at once, and what is more than the
        session was granted. A request that comes again while it waits is answered once, for both.
        """
        session = self._sessions.find(token)
        # Here, in the caller's thread: a batch is chosen from what may be in it.
        architecture = self._stage.half.architecture
        check_content(request, session.spec, architecture)
        if self._is_ending and session.begins(request) and not self._executor.has_work(id(session)):
            raise WorkerUnavailableError("the split worker is ending: it begins no more steps")
        demand = demand_of(request, session, architecture.steady_length)
        return self._executor.submit(
            (session, request),
            owner=id(session),
            demand=demand,
            key=(key_of(request), request.fingerprint),
            max_waiting=session.spec.max_unanswered,
        )

    def spec_of(self, token: str | None) -> SessionSpec:
        """What a session was opened with."""
        return self._sessions.find(token).spec

    def meter_of(self, token: str) -> TrafficMeter:
        """What counts the bytes of a session's streams."""
        return self._sessions.find(token).meter

    def say_goodbye(self, token: str) -> None:
        """A client has ended its exchange in good order: its session waits to be collected."""
        self._sessions.say_goodbye(token)

    def steps(self) -> dict[int, int]:
        """How many steps each open session has done, by client."""
        return dict(self.work_done().num_steps)

    def work_done(self) -> WorkDone:
        """How far all open sessions are."""
        return self._sessions.work_done()

    def collect(self, token: str) -> SessionResult:
        """What a session has learnt so far."""
        session = self._sessions.find(token)
        return self._executor.call(session.result, owner=id(session))

    def close(self, token: str) -> None:
        """End a session, and its stream; closing one that is gone already is no error."""
        self._sessions.remove(token)
        self.streams.end(token)
        self._limit_batches()

    def _limit_batches(self) -> None:
        """Give batches their part of what is left beside base, update and sessions."""
        if not self._takes_what_is_left:
            return
        half = self._stage.half
        taken = self._stage.update_bytes + self._sessions.held_bytes()
        limits = limits_for(
            half.architecture,
            half.parts.span,
            value_bytes=half.dtype.itemsize,
            memory_bytes=self._description.memory_bytes - taken,
            max_sessions=self._max_sessions_per_pass,
        )
        self._executor.limit(limits)

    def drain(self, timeout_seconds: float) -> bool:
        """Open no more sessions and begin no more steps; wait for those that are under way.

        Parameters
        ----------
        timeout_seconds
            How long they have.

        Returns
        -------
        bool
            Whether they were finished in time.
        """
        self._is_ending = True
        end = time.monotonic() + timeout_seconds
        while any(map(self._is_in_step, self._sessions.open_ones())):
            if time.monotonic() >= end:
                return False
            time.sleep(DRAINING_PAUSE_SECONDS)
        return True

    def _is_in_step(self, session: Session) -> bool:
        return session.progress is not None or self._executor.has_work(id(session))

    def stop(self) -> None:
        """End the worker's thread; waiting steps are refused."""
        self._executor.stop()
