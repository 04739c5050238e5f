"""The split workers of a run, one or several, as the strategy sees them."""

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Protocol, final

from ..errors import ConfigError, WorkerUnavailableError
from ..types import WorkerDescription
from ..wire.base_text import base_from_text
from ..wire.same_base import problem_with
from .handle import WorkerHandle


class WorkerGroup(Protocol):
    """The workers that serve a run: who lives, and what they have together."""

    @property
    def workers(self) -> Mapping[int, WorkerHandle]:
        """Those that live, as far as is known, by number."""

    def describe(self) -> WorkerDescription:
        """What the workers hold, and have together."""

    def find_dead(self) -> list[str]:
        """Find out who has died since the last look; says of each what happened."""

    def restart_dead(self) -> list[str]:
        """Start again whoever has died, as long as that is worth trying; says what came of it."""

    def stop(self) -> None:
        """Let go of all workers."""


@final
class SingleWorker:
    """A group of one worker: whether it lives is found out by asking it for something.

    One that was started anew, by whoever supervises it, is another worker under another number.
    """

    def __init__(self, worker: WorkerHandle) -> None:
        self._worker = worker
        self._number = 0
        self._instance = ""

    @property
    def workers(self) -> Mapping[int, WorkerHandle]:
        """The one."""
        return {self._number: self._worker}

    def describe(self) -> WorkerDescription:
        """What the worker holds and has."""
        description = self._worker.describe()
        if self._instance and description.instance != self._instance:
            self._number += 1
        self._instance = description.instance
        return description

    def find_dead(self) -> list[str]:
        """Whether it was started anew since the last look; where it is silent, nobody knows."""
        before = self._number
        try:
            self.describe()
        except WorkerUnavailableError:
            return []
        if self._number == before:
            return []
        return [f"the split worker at {self._worker.address} was started anew, without sessions"]

    def restart_dead(self) -> list[str]:
        """Nothing can be started here; that it was started elsewhere is said."""
        return self.find_dead()

    def stop(self) -> None:
        """Let go of the worker."""
        self._worker.stop()


def described_together(
    members: Iterable[tuple[Hashable, WorkerDescription]],
) -> WorkerDescription:
    """What workers of the same model have together, to be planned with as if they were one.

    Sessions add up, and so do memory and FLOP/s of different devices. Workers on one device share
    what it has, they do not multiply it: its speed is the highest that one of them measured; its
    free memory the smallest, which was measured when the others had their base. No base is in the
    sum: each worker measures what is free beside its own.

    Parameters
    ----------
    members
        One or more workers' descriptions, each with the device that it runs on.

    Raises
    ------
    ConfigError
        If they have loaded other bases.
    """
    by_device: dict[Hashable, list[WorkerDescription]] = {}
    for device, description in members:
        by_device.setdefault(device, []).append(description)
    anyone = next(iter(by_device.values()))[0]
    for worker in (each for workers in by_device.values() for each in workers):
        _check_alike(worker, anyone)
    return WorkerDescription(
        model=anyone.model,
        num_blocks=anyone.num_blocks,
        lowest_cut=anyone.lowest_cut,
        dtype=anyone.dtype,
        base=anyone.base,
        max_message_bytes=min(
            worker.max_message_bytes for workers in by_device.values() for worker in workers
        ),
        memory_bytes=math.fsum(
            min(worker.memory_bytes for worker in workers) for workers in by_device.values()
        ),
        flops_per_second=math.fsum(
            max(worker.flops_per_second for worker in workers) for workers in by_device.values()
        ),
        max_sessions=sum(
            worker.max_sessions for workers in by_device.values() for worker in workers
        ),
    )


def _check_alike(worker: WorkerDescription, other: WorkerDescription) -> None:
    if worker.base == other.base:
        return
    own, wanted = base_from_text(worker.base), base_from_text(other.base)
    if problem := problem_with(own, wanted, whose="another worker of the pool"):
        raise ConfigError(f"a worker of the pool cannot be used: {problem}")
