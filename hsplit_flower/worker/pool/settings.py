"""What a pool of workers on Ray is made of."""

import ipaddress
import math
from dataclasses import dataclass

from ...errors import ConfigError
from ..hosting import WorkerSettings


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How many workers are started, where, and how patiently.

    Attributes
    ----------
    worker
        What each of them loads and allows. A ``host`` that stands for every interface (``0.0.0.0``,
        ``::``) without an ``advertised_host`` lets workers run on every node, each under its node's
        own address; with any other, all of them run on this node. A ``port`` other than 0 is the
        first worker's, the others have those that follow it. ``num_threads`` 0 divides a node's
        cores among the workers where they compute on CPUs.
    num_workers
        How many; 0 is one for each GPU that Ray has, and one where it has none.
    ray_address
        Of a Ray cluster that runs already, where this process has no Ray yet; empty is that of the
        environment variable RAY_ADDRESS, and a Ray of our own where that is empty, too.
    awaits_ray
        Whether something else in this process is starting Ray, as Flower's simulation does.
    num_cpus
        What a worker asks of Ray's CPUs. None by default: simulated clients may hold all of them.
    placing_timeout_seconds, loading_timeout_seconds
        How long Ray may take to find places and start processes, and those to load their half.
    call_timeout_seconds
        How long a worker may take to answer a call.
    num_restarts
        How often each worker that dies is started again.
    """

    worker: WorkerSettings
    num_workers: int = 0
    ray_address: str = ""
    awaits_ray: bool = False
    num_cpus: float = 0.0
    placing_timeout_seconds: float = 180.0
    loading_timeout_seconds: float = 1800.0
    call_timeout_seconds: float = 120.0
    num_restarts: int = 3

    def __post_init__(self) -> None:
        wrong = [
            f"{name} must be zero or more, got {getattr(self, name)}"
            for name in ("num_workers", "num_cpus", "num_restarts")
            if not 0 <= getattr(self, name) < math.inf
        ]
        wrong += [
            f"{name} must be a positive number, got {getattr(self, name)}"
            for name in (
                "placing_timeout_seconds",
                "loading_timeout_seconds",
                "call_timeout_seconds",
            )
            if not 0 < getattr(self, name) < math.inf
        ]
        if self.worker.credentials is not None:
            wrong.append("worker.credentials cannot be handed to other processes: leave them out")
        if wrong:
            raise ConfigError("; ".join(wrong))

    @property
    def may_leave_this_node(self) -> bool:
        """Whether clients find a worker on whatever node it runs."""
        return not self.worker.advertised_host and stands_for_all(self.worker.host)


def stands_for_all(host: str) -> bool:
    """Whether listening on this host is listening on every interface."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:  # a name
        return False
