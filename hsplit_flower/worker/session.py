"""One client's state on the worker for one round, and the registry that finds it by its token."""

import hmac
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from ..adapters import Active, Trainable, collect, dropout_of, squared_norm_of, take_step
from ..errors import AuthenticationError, WorkerRejectedError
from ..settings import SessionSpec, Worker
from ..transport.traffic import TrafficMeter
from ..wire.factors import SessionResult
from ..wire.messages import Backward, Forward, Reply, Request
from ..wire.work_done import WorkDone
from .progress import Progress

ReplyKey = tuple[int, int, str]
"""Step, micro-batch, and kind of request."""


def key_of(request: Request) -> ReplyKey:
    """By what a request's reply is remembered."""
    return request.step, request.micro_batch, type(request).__name__


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A reply that was given, and what the request was by its content."""

    reply: Reply
    fingerprint: int


@dataclass(kw_only=True)
class Session:
    """Adapters, optimizer and step counter of one client; touched by the executor's thread only.

    ``num_tokens`` are those that came, padding included; ``meter`` counts what its client has sent
    and received, as far as it was seen here. ``progress`` is that of the step that is under way,
    None between steps. ``unsettled`` is the squared norm of the gradients of a step that is taken
    when the client's is known, where they are clipped. ``last_replies`` are those of the last step,
    as many as the client may be waiting for: a repeated request is answered again instead of
    applied again.
    """

    spec: SessionSpec
    active: Active
    trainables: Mapping[str, Trainable]
    optimizer: torch.optim.Optimizer | None
    num_steps: int = 0
    num_tokens: int = 0
    meter: TrafficMeter = field(default_factory=TrafficMeter)
    progress: Progress | None = None
    unsettled: float | None = None
    last_replies: dict[ReplyKey, Answered] = field(default_factory=dict)
    importance: dict[str, float] = field(default_factory=dict)

    @property
    def factors(self) -> list[torch.nn.Parameter]:
        """All that is trained."""
        return [factor for t in self.trainables.values() for factor in (t.a, t.b)]

    @cached_property
    def held_bytes(self) -> int:
        """What it takes between steps and in them: factors, gradients and two moments.

        Reckoned once: it is asked of all open sessions whenever one is opened or closed.
        """
        return 4 * sum(factor.nbytes for factor in self.factors)

    def active_in(self, request: Forward | Backward) -> Active:
        """What the session adds to each weight in the pass of a request, forth or back."""
        trains = isinstance(request, Backward) or request.train
        if not (self.spec.lora_dropout and trains):
            return self.active
        dropout = dropout_of(self.spec, request.step, request.micro_batch)
        return replace(self.active, dropout=dropout)

    def remember(self, request: Request, reply: Reply) -> None:
        """Keep a reply in case its request comes again.

        Those of earlier steps are forgotten, and those that the client must have read: it was not
        allowed to ask further otherwise.
        """
        kept = [(k, r) for k, r in self.last_replies.items() if k[0] == request.step]
        answered = Answered(reply=reply, fingerprint=request.fingerprint)
        self.last_replies = dict([*kept, (key_of(request), answered)][-self.spec.max_unanswered :])

    def repeated(self, request: Request) -> Reply | None:
        """The reply to a request that was answered already.

        Raises
        ------
        WorkerRejectedError
            If what was answered under its number was another request.
        """
        answered = self.last_replies.get(key_of(request))
        if answered is None:
            return None
        if answered.fingerprint != request.fingerprint:
            raise WorkerRejectedError(
                f"step {request.step}, micro-batch {request.micro_batch}, was answered, and comes "
                "again with another content: a new request needs a number of its own"
            )
        return answered.reply

    def start(self, request: Forward) -> Progress:
        """Count a micro-batch as carried on, the first one of a step or a later one."""
        if self.progress is None:
            self.progress = Progress(
                num_micro_batches=request.num_micro_batches,
                total_tokens=request.total_tokens,
                train=request.train,
            )
        self.progress.num_started += 1
        self.num_tokens += math.prod(request.hidden.shape[:2])
        return self.progress

    def finish_micro_batch(self) -> float:
        """Count a micro-batch as done; after the last one, take the optimizer's step.

        Where gradients are clipped this waits for `settle`; the answer is their squared norm.
        """
        assert self.progress is not None
        self.progress.num_done += 1
        if self.progress.num_done < self.progress.num_micro_batches:
            return 0.0
        if self.progress.train and self.spec.max_gradient_norm:
            self.unsettled = squared_norm_of(self.optimizer)
        elif self.progress.train and self.optimizer is not None:
            take_step(self.optimizer, self.spec, self.num_steps + 1)
        self.progress = None
        self.num_steps += 1
        return self.unsettled or 0.0

    def settle(self, squared_norm: float) -> None:
        """Take the step that waits for the squared norm of the client's gradients, if one does."""
        if self.unsettled is None:
            return
        whole, self.unsettled = self.unsettled + squared_norm, None
        if self.optimizer is not None:
            take_step(self.optimizer, self.spec, self.num_steps, squared_norm=whole)

    def forget_step(self) -> None:
        """Leave nothing of the step that is under way: it may be sent again from its beginning."""
        self.progress = None
        step = self.num_steps + 1
        self.last_replies = {k: r for k, r in self.last_replies.items() if k[0] != step}
        for factor in self.factors:
            factor.grad = None

    def begins(self, request: Request) -> bool:
        """Whether a request begins a step, and is none of one that is under way or was answered."""
        return self.progress is None and request.step > self.num_steps

    def result(self) -> SessionResult:
        """What this session has learnt so far."""
        return SessionResult(
            num_steps=self.num_steps,
            updates=collect(self.trainables, scaling=self.spec.scaling),
            importance=dict(self.importance),
        )


class Sessions:
    """Open sessions by token. A session that is not heard of for too long is gone.

    Silence counts from the last call while a client is in exchange. A client that has not come yet
    may be waiting for its turn, one that has said goodbye for the others': then silence counts
    from when the round must be over.

    Parameters
    ----------
    max_sessions
        How many may be open at once.
    timeout_seconds
        After how much silence a session is dropped.
    clock
        Seconds that only go up.
    """

    def __init__(
        self,
        *,
        max_sessions: int = Worker().max_sessions,
        timeout_seconds: float = Worker().session_timeout_seconds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_sessions = max_sessions
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._round_ends: dict[str, float] = {}
        self._silent_since: dict[str, float] = {}

    def __len__(self) -> int:
        with self._lock:
            self._drop_silent()
            return len(self._sessions)

    def add(self, session: Session) -> str:
        """Register a session; its token is the only way to reach it."""
        with self._lock:
            self._drop_silent()
            if len(self._sessions) >= self.max_sessions:
                raise WorkerRejectedError(
                    f"{self.max_sessions} sessions are open, no more are allowed: close some"
                )
            token = secrets.token_urlsafe(32)
            self._sessions[token] = session
            self._round_ends[token] = self._clock() + session.spec.round_timeout_seconds
            self._silent_since[token] = self._round_ends[token]
            return token

    def find(self, token: str | None) -> Session:
        """The session of a token.

        Raises
        ------
        AuthenticationError
            If the token is missing, wrong, or its session has timed out or was closed.
        """
        with self._lock:
            self._drop_silent()
            got = (token or "").encode()
            known = next((t for t in self._sessions if hmac.compare_digest(t.encode(), got)), None)
            if known is None:
                raise AuthenticationError(
                    "the session token is missing, wrong, or its session is closed or timed out"
                )
            self._silent_since[known] = self._clock()
            return self._sessions[known]

    def say_goodbye(self, token: str) -> None:
        """A client has ended its exchange in good order: its session is kept to be collected."""
        with self._lock:
            if token in self._sessions:
                self._silent_since[token] = max(self._clock(), self._round_ends[token])

    def work_done(self) -> WorkDone:
        """How far all open sessions of a round are."""
        of_round = {s.spec.client: s for s in self.open_ones() if not s.spec.writes}
        traffic = {client: session.meter.traffic for client, session in of_round.items()}
        return WorkDone(
            num_steps={client: session.num_steps for client, session in of_round.items()},
            num_tokens=sum(session.num_tokens for session in of_round.values()),
            up_bytes={client: own.up_bytes for client, own in traffic.items()},
            down_bytes={client: own.down_bytes for client, own in traffic.items()},
        )

    def open_ones(self) -> list[Session]:
        """Every session that is open."""
        with self._lock:
            self._drop_silent()
            return list(self._sessions.values())

    def held_bytes(self, of: type[Session] = Session) -> int:
        """What all open sessions of a kind take."""
        with self._lock:
            self._drop_silent()
            kind = (s for s in self._sessions.values() if isinstance(s, of))
            # Sessions that share an adapter have one dictionary of factors.
            return sum({id(s.trainables): s.held_bytes for s in kind}.values())

    def remove(self, token: str) -> None:
        """Close a session; closing one that is gone already is no error."""
        with self._lock:
            self._forget(token)

    def remove_all(self) -> dict[str, str]:
        """Close every session; gives the name of each one's client, by its token."""
        with self._lock:
            self._drop_silent()
            clients = {
                token: session.spec.shown_client for token, session in self._sessions.items()
            }
            for token in clients:
                self._forget(token)
            return clients

    def _drop_silent(self) -> None:
        horizon = self._clock() - self._timeout_seconds
        for token in [t for t, since in self._silent_since.items() if since < horizon]:
            self._forget(token)

    def _forget(self, token: str) -> None:
        for entries in (self._sessions, self._round_ends, self._silent_since):
            entries.pop(token, None)
