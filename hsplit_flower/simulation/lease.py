"""A simulated client's part of a card, leased from Ray's scheduler while it trains.

Flower gives all its virtual clients the same resources. Here each takes a lease of its own size: a
placement group with ``GPU = budget / card memory``, so that unequal clients share a card as tightly
as their budgets allow, and never more. Without a card Ray is started with virtual ones and nothing
else changes.

A placement group that an actor has made outlives that actor in Ray: it goes when the job ends. So
leases are made by one small manager, an actor for the whole cluster, which takes a lease back when
its owner dies. A deployment never comes here, and ray is imported only where a lease is taken.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TypeVar

import torch

from ..devices.cards import check_card, check_node, nodes, number_in_torch
from ..errors import ConfigError, LeaseError, NoCardError
from ..settings.device import DEVICE_KEYS, GIGABYTE
from ..sizes import size_text

logger = logging.getLogger(__name__)

# Ray counts in ten-thousandths.
UNIT = 1e-4
MANAGER, NAMESPACE = "lease-manager", "hsplit"
LOOK_SECONDS = 0.5
# A sliver of the node's own resource keeps the lease on its owner's machine.
NODE_SLIVER = 0.001


def gpu_fraction(budget_bytes: float, card_bytes: float) -> float:
    """The part of a card that a budget takes: ``budget / card``, in Ray's units, rounded up.

    Raises
    ------
    ConfigError
        If the budget is larger than the card, either is not a positive number of bytes, or no card
        has such a memory.
    """
    for name, value in (("budget", budget_bytes), ("card", card_bytes)):
        if not 0.0 < value < math.inf:
            raise ConfigError(f"a {name} must be a positive number of bytes, got {value}")
    if problem := DEVICE_KEYS["memory-gb"].problem("a card's memory in GB", card_bytes / GIGABYTE):
        raise ConfigError(problem)
    if budget_bytes > card_bytes:
        raise ConfigError(
            f"a budget of {size_text(budget_bytes)} is larger than a card of "
            f"{size_text(card_bytes)}"
        )
    # A part that is whole but for the last bit of its quotient is not rounded up.
    return min(1.0, max(1, math.ceil(budget_bytes / card_bytes / UNIT - 1e-9)) * UNIT)


Key = TypeVar("Key", int, str)


def gpu_fractions(
    budgets_bytes: Mapping[Key, float], card_bytes: float, *, what: str = "client"
) -> dict[Key, float]:
    """The part of a card for every client, or of whatever the budgets are.

    Raises
    ------
    ConfigError
        Naming everyone whose lease no card can give.
    """
    fractions, wrong = {}, []
    for client, budget_bytes in budgets_bytes.items():
        try:
            fractions[client] = gpu_fraction(budget_bytes, card_bytes)
        except ConfigError as error:
            wrong.append(f"{what} {client}: {error}")
    if wrong:
        raise ConfigError(
            f"{'; '.join(wrong)}. Give the fleet smaller devices, or simulate on larger cards"
        )
    return fractions


@contextmanager
def leased(fraction: float, *, card_bytes: float = 0.0, timeout_seconds: float) -> Iterator[str]:
    """The torch device to train on, with this part of a card held while the block runs.

    Parameters
    ----------
    fraction
        Of one card; 0 leases nothing, and Ray is not even imported.
    card_bytes
        Of which it is a part; a real card must have that much. 0 for whatever it has.
    timeout_seconds
        How long to wait while others hold too much.

    Raises
    ------
    NoCardError
        If there is no Ray, or no such card.
    LeaseError
        If there is no room in time.
    """
    has_cuda = torch.cuda.is_available()
    if not fraction:
        yield "cuda" if has_cuda else "cpu"
        return
    with _placement_group(fraction, timeout_seconds) as group:
        if not has_cuda:
            yield "cpu"
            return
        number = card_of(group, fraction) if torch.cuda.device_count() > 1 else 0
        check_card(number, card_bytes)
        yield f"cuda:{number}"


def card_of(group: Any, fraction: float) -> int:
    """Which of its node's cards a placement group lies on, as torch counts them here."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    def look() -> str:
        return str(ray.get_runtime_context().get_accelerator_ids()["GPU"][0])

    where = PlacementGroupSchedulingStrategy(placement_group=group)
    task = ray.remote(look).options(num_cpus=0, num_gpus=fraction, scheduling_strategy=where)
    return number_in_torch(ray.get(task.remote()))


@contextmanager
def _placement_group(fraction: float, timeout_seconds: float) -> Iterator[Any]:
    import ray

    if not ray.is_initialized():
        raise NoCardError(
            "a part of a card is to be leased, but this client does not run in Ray: leases are for "
            "simulations; leave lease-card-gb at 0 in a deployment"
        )
    here = ray.get_runtime_context().get_node_id()
    resources = next(node["Resources"] for node in nodes() if node["NodeID"] == here)
    check_node(resources, fraction)
    node = next(key for key in resources if key.startswith("node:") and "__" not in key)
    manager = _lease_manager()
    name, group = ray.get(
        manager.take.remote({"GPU": fraction, node: NODE_SLIVER}, _current_actor())
    )
    try:
        if not group.wait(timeout_seconds):
            raise LeaseError(
                f"{fraction:g} of a card was not free within {timeout_seconds:g} s: let fewer "
                "clients train at a time, or simulate on more cards"
            )
        yield group
    finally:
        ray.get(manager.give_back.remote(name))


def _current_actor() -> Any:
    """The actor that runs here, which the manager watches; None outside of one."""
    import ray

    with suppress(RuntimeError):
        if ray.get_runtime_context().get_actor_id():
            return ray.get_runtime_context().current_actor
    return None


def _lease_manager() -> Any:
    """The cluster's lease manager, started by who comes first."""
    import ray

    return (
        ray.remote(_lease_manager_class())
        .options(
            name=MANAGER, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, num_cpus=0
        )
        .remote()
    )


@cache
def _lease_manager_class() -> type:
    """Made here, so that it travels by value: the manager's process need not import torch."""
    import asyncio

    from ray.exceptions import RayActorError
    from ray.util.placement_group import placement_group, remove_placement_group

    class LeaseManager:
        """Makes placement groups, and removes them for owners that died."""

        def __init__(self) -> None:
            self._groups: dict[str, Any] = {}
            self._watches: set[Any] = set()

        async def take(self, bundle: dict[str, float], owner: Any) -> tuple[str, Any]:
            """A new group's name and the group, which its owner must wait for."""
            group = placement_group([bundle])
            name = group.id.hex()
            self._groups[name] = group
            if owner is not None:
                watch = asyncio.get_running_loop().create_task(self._watch(name, owner))
                self._watches.add(watch)
                watch.add_done_callback(self._watches.discard)
            return name, group

        async def give_back(self, name: str) -> None:
            """Remove a group; once is enough."""
            if name in self._groups:
                remove_placement_group(self._groups.pop(name))

        async def _watch(self, name: str, owner: Any) -> None:
            # An actor that works answers when it is done; one that is dead fails at once.
            with suppress(RayActorError):
                while name in self._groups:
                    await owner.__ray_ready__.remote()
                    await asyncio.sleep(LOOK_SECONDS)
            await self.give_back(name)

    return LeaseManager
