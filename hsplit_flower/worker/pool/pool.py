"""Several split workers as Ray actors.

Ray places the processes, starts them and says which of them died. What a worker is asked for goes
over its own gRPC service, as with a worker that runs alone, so no tensor passes through Ray. The
operator's token is made here and told to nobody else.
"""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigError, HSplitError, WorkerUnavailableError
from ...settings import Certificates, Link, Model, Planning, Worker
from ...transport.channel import ChannelSettings
from ...transport.remote_worker import RemoteWorker
from ...transport.security import Security
from ...types import HIGHEST_PORT, WorkerDescription
from ..group import described_together
from ..handle import WorkerHandle
from . import cluster
from .actor import Placement, WorkerActor

logger = logging.getLogger(__name__)

# An actor that lives answers at once, unless its machine is very busy.
PING_SECONDS, END_SECONDS = 60.0, 15.0
# A connection that was lost is made again in this time, if there is a worker to connect to.
SILENT_TRIES, SILENT_PAUSE_SECONDS = 4, 0.5
DEFAULT_LINK = Link()
# What a worker is told of the pool's settings; the others are the pool's own.
OF_EACH = (
    *("host", "advertised_host", "num_threads", "checkpointing"),
    *("max_sessions", "session_timeout_seconds"),
    *Certificates.model_fields,
    *("mutual_tls", "insecure"),
)


@dataclass(frozen=True, kw_only=True)
class PoolMember:
    """A worker of the pool: its actor, where that is, and how the worker in it is reached."""

    actor: Any
    placement: Placement
    remote: RemoteWorker
    description: WorkerDescription


class WorkerPool:
    """Workers that are started together, watched, and started again when they die.

    Parameters
    ----------
    model, lowest_cut
        What each of them loads.
    worker
        How many there are, where, and what each of them allows. A ``host`` that stands for every
        interface (``0.0.0.0``, ``::``) without an ``advertised_host`` lets workers run on every
        node, each under its node's own address; with any other, all of them run on this node. A
        ``port`` other than 0 is the first worker's, the others have those that follow it.
        ``num_threads`` 0 divides a node's cores among the workers where they compute on CPUs.
    link
        What a message may be, and how long a worker may take to answer a call.
    awaits_ray
        Whether something else in this process is starting Ray, as Flower's simulation does.
    """

    def __init__(
        self,
        model: Model,
        worker: Worker,
        *,
        lowest_cut: int = Planning().min_cut,
        link: Link = DEFAULT_LINK,
        awaits_ray: bool = False,
    ) -> None:
        self._model = model
        self._settings = worker
        self._lowest_cut = lowest_cut
        self._link = link
        self._awaits_ray = awaits_ray
        self._token = secrets.token_urlsafe(32)
        self._members: dict[int, PoolMember] = {}
        self._places: cluster.Places | None = None
        self._num_restarts: Counter[int] = Counter()
        self._ray = ExitStack()

    @property
    def workers(self) -> Mapping[int, WorkerHandle]:
        """Those that live, as far as is known, by number."""
        return {number: member.remote for number, member in sorted(self._members.items())}

    def start(self) -> None:
        """Start all workers and wait until they serve.

        Raises
        ------
        ConfigError
            If Ray has not what is asked for.
        WorkerUnavailableError
            If Ray cannot be reached, or a worker is not placed or not ready in time.
        """
        try:
            self._ray.enter_context(
                cluster.connected(self._settings.ray_address, awaits_ray=self._awaits_ray)
            )
            self._places = cluster.places_here(self._settings)
            self._start(range(self._places.num_workers))
        except BaseException:
            self.stop()
            raise

    def describe(self) -> WorkerDescription:
        """What the workers hold, and have together."""
        if not self._members:
            raise WorkerUnavailableError("no worker of the pool lives")
        return described_together(
            (member.placement.device, member.description) for member in self._members.values()
        )

    def find_dead(self) -> list[str]:
        """Find out who has died since the last look; says of each what happened."""
        lines = []
        for number, why in self._dead().items():
            member = self._members.pop(number)
            member.remote.stop()
            cluster.end([member.actor], timeout_seconds=END_SECONDS)
            lines.append(f"worker {number} at {member.remote.address} {why}")
        return lines

    def restart_dead(self) -> list[str]:
        """Start again whoever has died, each so many times at most; says what came of it."""
        assert self._places is not None, "the pool is started before it is asked for anything"
        lines = self.find_dead()
        for number in sorted(set(range(self._places.num_workers)) - self._members.keys()):
            if self._num_restarts[number] >= self._settings.num_restarts:
                continue
            self._num_restarts[number] += 1
            attempt = f"attempt {self._num_restarts[number]} of {self._settings.num_restarts}"
            try:
                self._start([number])
                lines.append(
                    f"worker {number} runs again, at {self._members[number].remote.address}"
                )
            except HSplitError as error:
                lines.append(
                    f"worker {number} could not be started again ({attempt}): {error}; "
                    f"{len(self._members)} workers are left"
                )
        return lines

    def stop(self) -> None:
        """End all workers, and Ray if it was started here."""
        members, self._members = self._members, {}
        for member in members.values():
            member.remote.stop()
        try:
            cluster.end([member.actor for member in members.values()], timeout_seconds=END_SECONDS)
        finally:
            self._ray.close()

    def _dead(self) -> dict[int, str]:
        """Whose process is gone, or serves no longer; Ray takes a moment to notice either."""
        calls = {number: member.actor.ping.remote() for number, member in self._members.items()}
        dead = cluster.deaths(calls, timeout_seconds=PING_SECONDS)
        for number, member in self._members.items():
            if number not in dead and (why := _silence(member.remote)):
                dead[number] = why
        return dead

    def _start(self, numbers: Sequence[int]) -> None:
        """Start workers, all or none."""
        assert self._places is not None
        actors = {n: cluster.started_actor(WorkerActor, self._places) for n in numbers}
        try:
            self._members |= self._hosted(actors, self._places)
        except BaseException:
            cluster.end(list(actors.values()), timeout_seconds=END_SECONDS)
            raise

    def _hosted(self, actors: Mapping[int, Any], places: cluster.Places) -> dict[int, PoolMember]:
        """Have actors load their half and serve it."""
        placements: dict[int, Placement] = cluster.answers(
            {number: actor.placement.remote() for number, actor in actors.items()},
            timeout_seconds=self._settings.placing_timeout_seconds,
            late="were not placed and started",
            known=f"; {places}, {cluster.resources()}",
        )
        there = [member.placement.device for member in self._members.values()]
        sharing = Counter([*there, *(placement.device for placement in placements.values())])
        addresses: dict[int, str] = cluster.answers(
            {
                number: actor.host.remote(
                    self._model,
                    self._settings_of(number, places),
                    sharing[placements[number].device],
                    lowest_cut=self._lowest_cut,
                    max_message_bytes=self._link.max_message_bytes,
                )
                for number, actor in actors.items()
            },
            timeout_seconds=self._settings.loading_timeout_seconds,
            late="had not loaded their half",
        )
        members, security = {}, Security.towards(self._settings)
        for number, address in addresses.items():
            channel = ChannelSettings.of(self._link)
            remote = RemoteWorker(address, self._token, channel, security)
            members[number] = PoolMember(
                actor=actors[number],
                placement=placements[number],
                remote=remote,
                description=remote.describe(),
            )
            logger.info(
                "worker %s runs as process %s on %s, at %s",
                number,
                placements[number].process,
                placements[number].ip_address,
                address,
            )
        return members

    def _settings_of(self, number: int, places: cluster.Places) -> Worker:
        """One worker's own: those of the pool say how many there are, which is no matter of its."""
        return Worker(
            **{name: getattr(self._settings, name) for name in OF_EACH},
            device="cuda" if places.num_gpus else "cpu",
            port=_port_of(self._settings.port, number),
            operator_token=self._token,
        )


def _port_of(first: int, number: int) -> int:
    """The ``number``-th port from the first one on; any free one where that is 0."""
    if first + number > HIGHEST_PORT:
        raise ConfigError(
            f"worker {number} would listen on port {first + number}, and {HIGHEST_PORT} is the "
            "highest: begin with a lower port, or start fewer workers"
        )
    return first + number if first else 0


def _silence(remote: RemoteWorker) -> str | None:
    """Why a worker does not answer although it was asked several times; None if it does."""
    why = None
    for _ in range(SILENT_TRIES):
        try:
            remote.steps()
            return None
        except WorkerUnavailableError as error:
            why = str(error)
            time.sleep(SILENT_PAUSE_SECONDS)
    return why
