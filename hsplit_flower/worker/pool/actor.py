"""What runs in each of a pool's processes: a split worker that is served over gRPC."""

import os
from collections.abc import Hashable
from dataclasses import dataclass

from ...settings import Model, Worker
from ...settings.hosts import stands_for_all
from ..hosting import HostedWorker, host_worker


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where an actor was placed.

    ``device`` is the same for two actors if they share what they compute on.
    """

    device: Hashable
    ip_address: str
    process: int


class WorkerActor:
    """A worker in an actor's process. Tensors and control reach it over gRPC, not through Ray."""

    def __init__(self) -> None:
        self._worker: HostedWorker | None = None

    def placement(self) -> Placement:
        """Where this actor is."""
        import ray

        context = ray.get_runtime_context()
        cards = context.get_accelerator_ids().get("GPU", [])
        return Placement(
            device=(context.get_node_id(), *cards),
            ip_address=str(ray.util.get_node_ip_address()),  # type: ignore[no-untyped-call]
            process=os.getpid(),
        )

    def host(
        self,
        model: Model,
        settings: Worker,
        num_sharing: int,
        *,
        lowest_cut: int,
        max_message_bytes: int,
    ) -> str:
        """Load the half, serve it, and tell the address.

        Parameters
        ----------
        model
            What is loaded.
        settings
            Of the worker; where no host is advertised, this node's own may be.
        num_sharing
            How many workers share the cores of this node.
        lowest_cut, max_message_bytes
            As `host_worker` takes them.
        """
        if stands_for_all(settings.host) and not settings.advertised_host:
            settings = settings.replace(advertised_host=_in_url(self.placement().ip_address))
        if not settings.num_threads and settings.device == "cpu":
            cores = len(os.sched_getaffinity(0))
            settings = settings.replace(num_threads=max(1, cores // num_sharing))
        self._worker = host_worker(
            model, settings, lowest_cut=lowest_cut, max_message_bytes=max_message_bytes
        )
        return self._worker.address

    def ping(self) -> None:
        """Nothing: that this returns says that the process lives."""


def _in_url(ip_address: str) -> str:
    return f"[{ip_address}]" if ":" in ip_address else ip_address
