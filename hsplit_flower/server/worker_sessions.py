"""The sessions that a round has open on the split workers, by client."""

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from logging import INFO, WARNING
from typing import TypeVar

from flwr.common.logger import log

from ..adapters import LowRank
from ..errors import ConfigError, HSplitError, WorkerUnavailableError
from ..settings.training import Training, following
from ..transport.remote_worker import RemoteWorker
from ..types import SessionSpec, WorkerDescription
from ..wire.factors import SessionResult
from ..worker.group import SingleWorker, WorkerGroup
from ..worker.hosting import WorkerHandle, WorkerSettings, host_worker
from ..worker.load_balancing import spread
from ..worker.pool import PoolSettings, WorkerPool
from ..worker.session import MAX_SESSIONS

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """Where a client's session is, and what opens it."""

    worker: int
    address: str
    token: str


class WorkerSessions:
    """One split worker or a pool of them, and the tickets of the open sessions.

    Parameters
    ----------
    model
        What the workers must serve.
    worker
        Where one or several are started, or one that runs already; only what was started is
        stopped by us.
    """

    def __init__(
        self, model: str, worker: WorkerHandle | WorkerSettings | PoolSettings | None
    ) -> None:
        self._model = model
        self._settings = WorkerSettings(model=model) if worker is None else worker
        self._is_ours = isinstance(self._settings, WorkerSettings | PoolSettings)
        self._group: WorkerGroup | None = None
        self._described: list[str] = []
        self._max_sessions = MAX_SESSIONS
        self._tickets: dict[int, Ticket] = {}

    @property
    def group(self) -> WorkerGroup:
        """The running workers."""
        if self._group is None:
            raise ConfigError("the split worker is not running: call start, which runs it")
        return self._group

    def open_worker(
        self, training: Training, *, lowest_cut: int, num_blocks: int, awaits_ray: bool = False
    ) -> WorkerDescription:
        """Start what is to be started, and see that it serves this model.

        Parameters
        ----------
        training
            How the model is loaded, and what a message may be.
        lowest_cut, num_blocks
            Which blocks are wanted.
        awaits_ray
            Whether something else in this process is starting Ray.

        Raises
        ------
        ConfigError
            If it serves another model, or not all blocks that are asked of it, or in another dtype.
        """
        if isinstance(self._settings, RemoteWorker):
            log(INFO, "Waiting for the split worker at %s", self._settings.address)
        if self._group is None:
            self._group = self._started(training, lowest_cut, awaits_ray)
            if self._is_ours:
                log(INFO, "The split worker listens on %s", ", ".join(self._addresses()))
        there = self._describe()
        addresses = ", ".join(self._described)
        if there.num_blocks != num_blocks or there.lowest_cut > lowest_cut:
            raise ConfigError(
                f"the split worker at {addresses} serves blocks {there.lowest_cut} to "
                f"{there.num_blocks} of {there.model!r}; {lowest_cut} to {num_blocks} of "
                f"{self._model!r} are wanted"
            )
        if there.dtype != training.dtype:
            raise ConfigError(
                f"the split worker at {addresses} computes in {there.dtype}, {training.dtype} is "
                "wanted: start it with that dtype, or train with its"
            )
        if there.model != self._model:
            log(
                WARNING,
                "the split worker at %s has loaded %r, clients load %r: is it the same model?",
                addresses,
                there.model,
                self._model,
            )
        return there

    def restart_dead(self) -> WorkerDescription | None:
        """Before a round: start again who has died; what the workers have, if that has changed.

        Raises
        ------
        WorkerUnavailableError
            If no worker of a pool lives, and none can be started.
        """
        for line in self.group.restart_dead():
            log(WARNING, "%s", line)
        if self._addresses() == self._described:
            return None
        return self._describe()

    def load_update(self, updates: Mapping[str, LowRank]) -> None:
        """Make ``updates`` the global adapter that the next sessions start from, everywhere."""

        def load(worker: WorkerHandle) -> None:
            worker.load_update(updates)

        self._on_each({number: load for number in self.group.workers})

    def open_all(
        self, specs: Mapping[int, SessionSpec], loads: Mapping[int, float]
    ) -> dict[int, Ticket]:
        """Open a session for each client, spread over the workers by what a step takes of them.

        Parameters
        ----------
        specs
            By client.
        loads
            By client, in any unit.

        Raises
        ------
        ConfigError
            If the workers may not have as many open.
        """
        if len(specs) > self._max_sessions:
            raise ConfigError(
                f"the round has {len(specs)} clients, the split worker at "
                f"{', '.join(self._addresses())} serves {self._max_sessions} at a time: start it "
                "with a higher --max-sessions, or sample fewer clients"
            )
        opened: dict[int, Ticket] = {}
        while waiting := {client: loads[client] for client in specs if client not in opened}:
            self._check_somebody_lives()
            places = spread(waiting, list(self.group.workers))
            self._on_each(
                {
                    number: self._opening(
                        number, [c for c in waiting if places[c] == number], specs
                    )
                    for number in set(places.values())
                }
            )
            living = self.group.workers
            opened = {c: t for c, t in self._tickets.items() if c in specs and t.worker in living}
        return opened

    def lost(self, clients: Collection[int]) -> list[int]:
        """Those of these clients whose session went with its worker, which is said in the log."""
        if clients:
            self._look()
        return [c for c in clients if c in self._tickets and not self._worker_of(c)]

    def collect(self, client: int) -> SessionResult:
        """What a client's session has learnt.

        Raises
        ------
        WorkerUnavailableError
            If its worker is gone.
        """
        worker = self._worker_of(client)
        if worker is None:
            raise WorkerUnavailableError("its session went with the worker that it was on")
        return worker.collect(self._tickets[client].token)

    def steps(self) -> int:
        """How many steps all open sessions have done together."""
        counts = []
        for worker in self.group.workers.values():
            with suppress(WorkerUnavailableError):
                counts.append(sum(worker.steps().values()))
        if not counts:
            raise WorkerUnavailableError("no worker says how far its sessions are")
        return sum(counts)

    def close_all(self) -> None:
        """End every session; those on a worker that is silent end with the next update it loads."""
        silent: set[int] = set()
        while self._tickets:
            client, ticket = next(iter(self._tickets.items()))
            worker = None if ticket.worker in silent else self._worker_of(client)
            try:
                if worker is not None:
                    worker.close(ticket.token)
            except HSplitError as error:
                if isinstance(error, WorkerUnavailableError):
                    silent.add(ticket.worker)
                log(WARNING, "the session of client %s could not be closed: %s", client, error)
            del self._tickets[client]

    def close_worker(self) -> None:
        """End every session, and the workers that are ours."""
        if self._group is None:
            return
        self.close_all()
        if self._is_ours:
            self._group.stop()
            self._group = None

    def _started(self, training: Training, lowest_cut: int, awaits_ray: bool) -> WorkerGroup:
        def wanted(settings: WorkerSettings) -> WorkerSettings:
            return following(
                settings,
                model=self._model,
                revision=training.revision,
                lowest_cut=lowest_cut,
                dtype=training.dtype,
                attention=training.attention,
                max_message_bytes=training.max_message_bytes,
            )

        if isinstance(self._settings, PoolSettings):
            pool = WorkerPool(
                replace(
                    self._settings,
                    worker=wanted(self._settings.worker),
                    awaits_ray=awaits_ray,
                    call_timeout_seconds=training.step_timeout_seconds,
                )
            )
            pool.start()
            return pool
        if isinstance(self._settings, WorkerSettings):
            return SingleWorker(host_worker(wanted(self._settings)))
        return SingleWorker(self._settings)

    def _describe(self) -> WorkerDescription:
        there = self.group.describe()
        self._described, self._max_sessions = self._addresses(), there.max_sessions
        return there

    def _addresses(self) -> list[str]:
        return [worker.address for worker in self.group.workers.values()]

    def _worker_of(self, client: int) -> WorkerHandle | None:
        return self.group.workers.get(self._tickets[client].worker)

    def _opening(
        self, number: int, clients: Iterable[int], specs: Mapping[int, SessionSpec]
    ) -> Callable[[WorkerHandle], None]:
        """What opens these clients' sessions on a worker, and notes each as it is open."""

        def open_each(worker: WorkerHandle) -> None:
            for client in clients:
                token = worker.open(specs[client])
                self._tickets[client] = Ticket(worker=number, address=worker.address, token=token)

        return open_each

    def _on_each(self, work: Mapping[int, Callable[[WorkerHandle], None]]) -> None:
        """Ask several workers for something at a time; who dies of it is not asked any more.

        Raises
        ------
        WorkerUnavailableError
            If a worker does not answer and is not known to be dead, or no worker is left.
        HSplitError
            That a worker raised.
        """
        workers = self.group.workers
        if len(work) == 1:
            calls = [(number, _caught(do, workers[number])) for number, do in work.items()]
        else:
            with ThreadPoolExecutor(max_workers=max(1, len(work))) as threads:
                futures = {n: threads.submit(_caught, do, workers[n]) for n, do in work.items()}
            calls = [(number, future.result()) for number, future in futures.items()]
        failures = {number: error for number, error in calls if error is not None}
        if failures:
            self._look()
        for number, error in failures.items():
            if number in self.group.workers or not isinstance(error, WorkerUnavailableError):
                raise error
        self._check_somebody_lives()

    def _check_somebody_lives(self) -> None:
        if not self.group.workers:
            raise WorkerUnavailableError("no worker of the pool lives")

    def _look(self) -> None:
        for line in self.group.find_dead():
            log(WARNING, "%s", line)


def _caught(do: Callable[[WorkerHandle], None], worker: WorkerHandle) -> HSplitError | None:
    try:
        do(worker)
    except HSplitError as error:
        return error
    return None
