"""The sessions that a round has open on the split workers, by client."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from logging import INFO, WARNING

from flwr.common.logger import log

from ..adapters import LowRank
from ..errors import ConfigError, HSplitError, WorkerUnavailableError
from ..settings import RunSettings, SessionSpec
from ..transport.traffic import Traffic
from ..types import WorkerDescription
from ..wire.factors import SessionResult
from ..wire.work_done import WorkDone
from ..worker.group import SingleWorker, WorkerGroup
from ..worker.handle import WorkerHandle
from ..worker.load_balancing import balanced
from .ticket import Ticket
from .worker_calls import Call, failures
from .worker_start import check_serves, started_group


class WorkerSessions:
    """One split worker or a group of them, and the tickets of the open sessions.

    Parameters
    ----------
    settings
        Of the run: what the workers must serve, and where one or several are started.
    running
        One that runs already; only what was started here is stopped here.
    """

    def __init__(self, settings: RunSettings, running: WorkerHandle | None = None) -> None:
        self._settings = settings
        self._running = running
        self._is_ours = running is None and not settings.worker.address
        self._group: WorkerGroup | None = None
        self._described: list[str] = []
        self._description: WorkerDescription | None = None
        self._tickets: dict[int, Ticket] = {}
        self._updates: Mapping[str, LowRank] = {}
        self._loaded: frozenset[int] = frozenset()

    @property
    def group(self) -> WorkerGroup:
        """The running workers."""
        if self._group is None:
            raise ConfigError("the split worker is not running: call start, which runs it")
        return self._group

    def open_worker(
        self, *, num_blocks: int, quantised: str = "", awaits_ray: bool = False
    ) -> None:
        """Start what is to be started, and see that it serves this model.

        Parameters
        ----------
        num_blocks
            Of the model.
        quantised
            What the model's matrices are quantised to; empty where they are not.
        awaits_ray
            Whether something else in this process is starting Ray.

        Raises
        ------
        ConfigError
            If it serves another model, or not all blocks that are asked of it, or in another dtype.
        """
        if self._settings.worker.address:
            log(INFO, "Waiting for the split worker at %s", self._settings.worker.address)
        if self._group is None:
            self._group = (
                SingleWorker(self._running)
                if self._running is not None
                else started_group(self._settings, awaits_ray=awaits_ray)
            )
            if self._is_ours:
                log(INFO, "The split worker listens on %s", ", ".join(self._addresses()))
        # One that runs elsewhere may have been started anew since the last run.
        self._description = None
        check_serves(
            self.describe(),
            self._settings,
            num_blocks=num_blocks,
            quantised=quantised,
            addresses=self._described,
        )

    def describe(self) -> WorkerDescription:
        """What the workers hold, and have together; asked again where others are there by now."""
        if self._description is None or self._addresses() != self._described:
            self._description = self.group.describe()
            self._described = self._addresses()
        return self._description

    def check_alive(self) -> None:
        """Ask the workers once more.

        Raises
        ------
        WorkerUnavailableError
            If none answers.
        """
        self._check_somebody_lives()
        self._description = None
        self.describe()

    def restart_dead(self) -> None:
        """Before a round: start again who has died, and ask anew what there is then.

        Raises
        ------
        WorkerUnavailableError
            If no worker of a pool lives, and none can be started.
        """
        for line in self.group.restart_dead():
            log(WARNING, "%s", line)
            self._description = None
        self._check_somebody_lives()

    def load_update(self, updates: Mapping[str, LowRank]) -> None:
        """Make ``updates`` the global adapter that the next sessions start from, everywhere."""
        self._updates, self._loaded = updates, frozenset()
        self._load()

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
        self._check_somebody_lives()
        if len(specs) > (most := self.describe().max_sessions):
            raise ConfigError(
                f"the round has {len(specs)} clients, the split worker at "
                f"{', '.join(self._addresses())} serves {most} at a time: start it "
                "with a higher --max-sessions, or sample fewer clients"
            )
        opened: dict[int, Ticket] = {}
        while waiting := {client: loads[client] for client in specs if client not in opened}:
            self._check_somebody_lives()
            self._load()
            places = balanced(waiting, list(self.group.workers))
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
            self._find_dead()
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

    def work_done(self) -> WorkDone:
        """How far all open sessions are."""
        told = []
        for worker in self.group.workers.values():
            # Whatever is wrong with a worker, its sessions say so themselves: this is for figures.
            with suppress(HSplitError):
                told.append(worker.work_done())
        if not told:
            raise WorkerUnavailableError("no worker says how far its sessions are")
        return WorkDone.of_all(told)

    def traffic_of(self, clients: Collection[int]) -> dict[int, Traffic]:
        """What these clients and their sessions have exchanged, where a worker can still say."""
        try:
            done = self.work_done()
        except WorkerUnavailableError:
            return {}
        return {
            client: Traffic(up_bytes=done.up_bytes[client], down_bytes=done.down_bytes[client])
            for client in clients
            if client in done.up_bytes and client in done.down_bytes
        }

    def close_all(self) -> None:
        """End every session; those on a worker that is silent end with the next update it loads."""
        silent: set[int] = set()
        for client, ticket in list(self._tickets.items()):
            if ticket.worker in silent:
                del self._tickets[client]
            elif isinstance(self._close(client), WorkerUnavailableError):
                silent.add(ticket.worker)

    def close_worker(self) -> None:
        """End every session, and the workers that are ours."""
        if self._group is None:
            return
        self.close_all()
        if self._is_ours:
            self._group.stop()
            self._group = self._description = None

    def _close(self, client: int) -> HSplitError | None:
        """End a client's session, if it has one; gives what was in the way of it."""
        if client not in self._tickets:
            return None
        worker, ticket = self._worker_of(client), self._tickets.pop(client)
        return None if worker is None else ticket.close_on(worker)

    def _load(self) -> None:
        """Give the global adapter to every worker that does not have it, as one started anew."""

        def load(worker: WorkerHandle) -> None:
            worker.load_update(self._updates)

        wanting = self.group.workers.keys() - self._loaded
        if wanting:
            self._on_each(dict.fromkeys(wanting, load))
            self._loaded |= wanting & self.group.workers.keys()

    def _addresses(self) -> list[str]:
        return [worker.address for worker in self.group.workers.values()]

    def _worker_of(self, client: int) -> WorkerHandle | None:
        return self.group.workers.get(self._tickets[client].worker)

    def _opening(
        self, number: int, clients: Iterable[int], specs: Mapping[int, SessionSpec]
    ) -> Call:
        """What opens these clients' sessions on a worker, and notes each as it is open."""

        def open_each(worker: WorkerHandle) -> None:
            for client in clients:
                self._close(client)
                token = worker.open(specs[client])
                self._tickets[client] = Ticket(
                    client=specs[client].shown_client,
                    worker=number,
                    address=worker.address,
                    token=token,
                    trust=worker.trust,
                )

        return open_each

    def _on_each(self, work: Mapping[int, Call]) -> None:
        """Ask several workers for something at a time; who dies of it is not asked any more.

        Raises
        ------
        WorkerUnavailableError
            If a worker does not answer and is not known to be dead, or no worker is left.
        HSplitError
            That a worker raised.
        """
        failed = failures(work, self.group.workers)
        if failed:
            self._find_dead()
        for number, error in failed.items():
            if number in self.group.workers or not isinstance(error, WorkerUnavailableError):
                raise error
        self._check_somebody_lives()

    def _check_somebody_lives(self) -> None:
        if not self.group.workers:
            raise WorkerUnavailableError("no worker of the pool lives")

    def _find_dead(self) -> None:
        for line in self.group.find_dead():
            log(WARNING, "%s", line)
