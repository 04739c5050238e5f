"""What a pool asks of Ray: to be there, to have room, to start actors, to say who of them died."""

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...devices import cards
from ...errors import ConfigError, HSplitError, WorkerUnavailableError
from ...settings import Worker
from ...settings.hosts import stands_for_all

# Nothing large goes through a Ray of our own.
OBJECT_STORE_BYTES = 128 * 2**20
REACH_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Places:
    """How many workers there are to be, what each asks of Ray, and on which node if on one."""

    num_workers: int
    num_gpus: int
    num_cpus: float
    node_id: str | None

    def __str__(self) -> str:
        where = "" if self.node_id is None else " on this node"
        return f"each asks for {self.num_gpus} GPUs and {self.num_cpus:g} CPUs{where}"


def places_for(settings: Worker, nodes: Sequence[Mapping[str, Any]], this_node: str) -> Places:
    """How many workers fit, one a GPU, or as many as are asked for on CPUs.

    A GPU counts where Ray has found a card of a kind that it knows: those that a simulation only
    says it has (``init-args-num-gpus``) are left to its clients.

    Parameters
    ----------
    settings
        What is asked for.
    nodes
        Of Ray, as ``ray.nodes()`` describes them.
    this_node
        Id of the node that this process is on.

    Raises
    ------
    ConfigError
        If more workers are asked for than there are GPUs, or one and there is none.
    """
    pinned = None if may_leave_this_node(settings) else this_node
    allowed = [
        node["Resources"]
        for node in nodes
        if node.get("Alive", True) and pinned in (None, node["NodeID"])
    ]
    num_cards = sum(
        int(resources.get("GPU", 0)) for resources in allowed if cards.are_real(resources)
    )
    device, wanted = settings.device, settings.num_workers
    where = (
        ""
        if pinned is None
        else (" on this node (to use others, listen on 0.0.0.0 and advertise no host)")
    )
    if device == "cpu" or (device == "auto" and not num_cards):
        return Places(
            num_workers=wanted or 1, num_gpus=0, num_cpus=settings.num_cpus, node_id=pinned
        )
    if max(wanted, 1) > num_cards:
        raise ConfigError(
            f"{max(wanted, 1)} workers are asked for, each with a GPU of its own; Ray has "
            f"{num_cards} GPUs{where}: ask for fewer workers, or start Ray with more"
        )
    return Places(
        num_workers=wanted or num_cards, num_gpus=1, num_cpus=settings.num_cpus, node_id=pinned
    )


def places_here(settings: Worker) -> Places:
    """The same for the Ray that this process is connected to."""
    import ray

    return places_for(settings, cards.nodes(), ray.get_runtime_context().get_node_id())


def may_leave_this_node(settings: Worker) -> bool:
    """Whether clients find a worker on whatever node it runs."""
    return not settings.advertised_host and stands_for_all(settings.host)


@contextmanager
def connected(ray_address: str = "", *, awaits_ray: bool = False) -> Iterator[None]:
    """Ray while the block runs: the one of this process, one that runs already, or one of our own.

    Only a connection that was made here is ended here.

    Parameters
    ----------
    ray_address
        Of a cluster that runs already, where this process has no Ray yet; empty is that of the
        environment variable RAY_ADDRESS, and a Ray of our own where that is empty, too.
    awaits_ray
        Whether something else in this process is starting Ray, as Flower's simulation does.

    Raises
    ------
    ConfigError
        If this process is connected to another Ray than the one that is asked for.
    WorkerUnavailableError
        If there is none and none can be started.
    """
    import ray

    if awaits_ray and not cards.await_ray():
        raise WorkerUnavailableError(
            f"the simulation has not started Ray within {cards.AWAITING_SECONDS:g} s: its log says "
            "why"
        )
    if ray.is_initialized():
        _check_is_meant(ray.get_runtime_context().gcs_address, ray_address)
        yield
        return
    address = ray_address or os.environ.get("RAY_ADDRESS") or "local"
    of_our_own: dict[str, Any] = (
        {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        if address == "local"
        else {}
    )
    try:
        _check_listens(address)
        ray.init(address=address, logging_level=logging.WARNING, **of_our_own)
    except Exception as error:  # Ray's own are bare
        ray.shutdown()
        raise WorkerUnavailableError(
            f"no Ray at {address!r}: {error}. Start one there, or give another address"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_is_meant(connected_to: str, wanted: str) -> None:
    if wanted not in ("", "auto", connected_to):
        raise ConfigError(
            f"Ray at {wanted!r} is asked for, and this process is connected to the one at "
            f"{connected_to!r}, as the ServerApp of a simulation always is: its workers run there; "
            "leave the address out"
        )


def _check_listens(address: str) -> None:
    """Ray itself tries for minutes to reach what is not there."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()


def started_actor(actor_class: type, places: Places) -> Any:
    """A new actor, which Ray places when it has room; it ends with this process at the latest."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return (
        ray.remote(actor_class)
        .options(
            num_cpus=places.num_cpus,
            num_gpus=places.num_gpus,
            max_restarts=0,
            scheduling_strategy="SPREAD"
            if places.node_id is None
            else NodeAffinitySchedulingStrategy(node_id=places.node_id, soft=False),
        )
        .remote()
    )


def answers(
    calls: Mapping[int, Any], *, timeout_seconds: float, late: str, known: str = ""
) -> dict[int, Any]:
    """What actors answer to these calls, all of them in time.

    Parameters
    ----------
    calls
        By the worker's number.
    timeout_seconds
        For all of them together.
    late
        What it means that a worker has not answered in time.
    known
        What helps to understand why one has not answered, or has died.

    Raises
    ------
    WorkerUnavailableError
        If one has died, or has not answered in time.
    HSplitError
        That an actor raised.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError, RayTaskError

    deadline, got = time.monotonic() + timeout_seconds, {}
    for number, call in calls.items():
        try:
            got[number] = ray.get(call, timeout=max(0.0, deadline - time.monotonic()))
        except GetTimeoutError:
            waiting = len(calls) - len(got)
            raise WorkerUnavailableError(
                f"{waiting} of {len(calls)} workers {late} within {timeout_seconds:g} s{known}"
            ) from None
        except RayTaskError as error:
            if isinstance(error.cause, HSplitError):
                raise error.cause from None
            raise WorkerUnavailableError(f"worker {number} failed: {error.cause!r}") from error
        except RayError as error:
            raise WorkerUnavailableError(f"worker {number} {_first_line(error)}{known}") from error
    return got


def deaths(calls: Mapping[int, Any], *, timeout_seconds: float) -> dict[int, str]:
    """Which actors do not answer these calls, and why not."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    deadline, dead = time.monotonic() + timeout_seconds, {}
    for number, call in calls.items():
        try:
            ray.get(call, timeout=max(0.0, deadline - time.monotonic()))
        except GetTimeoutError:
            dead[number] = f"did not answer within {timeout_seconds:g} s"
        except RayError as error:
            dead[number] = _first_line(error)
    return dead


def resources() -> str:
    """What Ray has and what of it is free, in words."""
    import ray

    def of(kinds: Mapping[str, float]) -> str:
        return f"{kinds.get('GPU', 0.0):g} GPUs and {kinds.get('CPU', 0.0):g} CPUs"

    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    return f"Ray has {of(there)}, free are {of(free)}"


def end(actors: Sequence[Any], *, timeout_seconds: float) -> None:
    """Kill actors and wait until they are dead; those that are already are no error."""
    import ray

    if not ray.is_initialized():
        return
    for actor in actors:
        ray.kill(actor)
    deaths(
        {n: actor.ping.remote() for n, actor in enumerate(actors)}, timeout_seconds=timeout_seconds
    )


def _first_line(error: Exception) -> str:
    """Ray's errors go on for many lines of what it thinks might help."""
    return f"died: {str(error).strip().splitlines()[0]}"
