"""Do unequal virtual clients share a card better with leases of their own size?

Ten clients of 5 to 20 GB on one card of 48 GB, in real Ray processes with real leases; the card is
a virtual one where there is none. Each works for a known time: it sleeps, so that figures are about
packing and not about cores. Compared with giving every client what the largest needs, which is what
one setting for all clients has to do.
"""

import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target

GIGABYTE = 1e9
CARD_BYTES = 48 * GIGABYTE
NUM_CLIENTS = 10
# As in Flower's pool there are fewer than clients; five of the smallest fill the card.
NUM_PROCESSES = 6
LOWEST_BYTES, HIGHEST_BYTES = 5 * GIGABYTE, 20 * GIGABYTE
PATIENCE_SECONDS = 30.0
LEASE_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Held:
    """When a client had its lease, on the machine's clock."""

    budget_bytes: float
    began: float
    ended: float


def measure(settings: Settings) -> Iterable[Figure | Detail]:
    """Makespans, what was leased at most, and what a killed client leaves."""
    from hsplit_flower.simulation.lease import gpu_fraction

    work_seconds = 1.0 if settings.quick else 4.0
    step = (HIGHEST_BYTES - LOWEST_BYTES) / (NUM_CLIENTS - 1)
    budgets = [LOWEST_BYTES + step * index for index in range(NUM_CLIENTS)]
    largest = gpu_fraction(max(budgets), CARD_BYTES)
    ratios, peaks, packed_seconds, uniform_seconds = [], [], [], []
    with _ray() as clients:
        for seed in settings.seeds[: 1 if settings.quick else None]:
            order = list(budgets)
            random.Random(seed).shuffle(order)
            own = [gpu_fraction(budget, CARD_BYTES) for budget in order]
            packed = _round(clients, order, own, work_seconds)
            uniform = _round(clients, order, [largest] * NUM_CLIENTS, work_seconds)
            packed_seconds.append(_makespan(packed))
            uniform_seconds.append(_makespan(uniform))
            ratios.append(packed_seconds[-1] / uniform_seconds[-1])
            peaks.append(_peak_bytes(packed) / CARD_BYTES)
        yield Figure.of_repeats("makespan packed / uniform", ratios, "ratio", Target("<", 1.0))
        yield Figure.of_repeats("makespan packed", packed_seconds, "s")
        yield Figure.of_repeats("makespan uniform", uniform_seconds, "s")
        bound = max(work_seconds, sum(budgets) * work_seconds / CARD_BYTES)
        yield Figure.of_repeats(
            "no packing could be faster than", [bound / s for s in packed_seconds], "of packed"
        )
        yield Figure(
            name="peak leased / capacity", value=max(peaks), unit="ratio", target=Target("<=", 1.0)
        )
        killed = [_kill_one(clients, max(budgets)) for _ in range(1 if settings.quick else 3)]
        yield Figure(
            name="leases left after a client is killed",
            value=float(sum(left for left, _ in killed)),
            unit="leases",
            target=Target("==", 0.0),
        )
        yield Figure.of_repeats("card whole again after a kill", [s for _, s in killed], "s")
    work = {"kind": "sleep", "seconds": work_seconds, "budgets-bytes": budgets}
    yield Detail(name="work", value=work)


BENCHMARK = Benchmark(
    name="budgets",
    summary="Ten unequal clients share a card by leases of their own size, or of one for all.",
    measure=measure,
    seeds=(0, 1, 2),
)


class Client:
    """A process that serves virtual clients, one at a time."""

    def process(self) -> int:
        """Its process id, once everything it needs is imported."""
        import hsplit_flower.simulation.lease  # noqa: F401

        return os.getpid()

    def work(self, budget_bytes: float, fraction: float, seconds: float) -> Held:
        """Work for so long with this part of a card; gives when it was held."""
        from hsplit_flower.simulation.lease import leased

        with leased(fraction, timeout_seconds=LEASE_SECONDS):
            began = time.time()
            time.sleep(seconds)
            return Held(budget_bytes=budget_bytes, began=began, ended=time.time())


@contextmanager
def _ray() -> Iterator[list[Any]]:
    """Ray with one card, and the clients' processes, all ready."""
    import ray

    _start_ray()
    try:
        remote: Any = ray.remote(Client)
        clients = [remote.options(num_cpus=0).remote() for _ in range(NUM_PROCESSES)]
        ray.get([client.process.remote() for client in clients])
        # The first lease starts the manager that all others ask.
        ray.get(clients[0].work.remote(0.0, 0.1, 0.0))
        yield clients
    finally:
        ray.shutdown()


def _start_ray() -> None:
    """Start Ray here, once more if it was too slow for its own patience."""
    import ray

    from hsplit_flower.cli.simulation_run import ray_was_late

    start = partial(
        ray.init,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        start()
    except Exception as error:  # Ray raises a plain one
        if not ray_was_late(str(error)):
            raise
        ray.shutdown()
        start()


def _round(
    clients: Sequence[Any], budgets: Sequence[float], fractions: Sequence[float], seconds: float
) -> list[Held]:
    """All clients once, in this order, each as soon as a process is free for it."""
    from ray.util.actor_pool import ActorPool

    jobs = zip(budgets, fractions, strict=True)
    pool = ActorPool(list(clients))
    return list(
        pool.map_unordered(lambda client, job: client.work.remote(*job, seconds), list(jobs))
    )


def _makespan(held: Sequence[Held]) -> float:
    return max(one.ended for one in held) - min(one.began for one in held)


def _peak_bytes(held: Sequence[Held]) -> float:
    """The most that was leased at any time: the sum can only rise where a lease begins."""
    return max(
        sum(other.budget_bytes for other in held if other.began <= one.began < other.ended)
        for one in held
    )


def _kill_one(clients: list[Any], budget_bytes: float) -> tuple[int, float]:
    """Kill a client that holds a lease; leases that are left, and seconds until the card is free.

    A lease that is not back in time counts as left.
    """
    import ray
    from ray.util.placement_group import placement_group_table

    from hsplit_flower.simulation.lease import gpu_fraction

    victim = clients.pop()
    process = ray.get(victim.process.remote())
    fraction = gpu_fraction(budget_bytes, CARD_BYTES)
    victim.work.remote(budget_bytes, fraction, 1000.0)
    _await_lease(fraction)
    os.kill(process, signal.SIGKILL)
    killed = time.perf_counter()
    _comes_true(lambda: _free_cards() > 1.0 - 1e-6)
    seconds = time.perf_counter() - killed
    left = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
    return len(left), seconds


def _await_lease(fraction: float) -> None:
    """Wait until this part of the card is held: who has no lease leaves none, killed or not."""
    if not _comes_true(lambda: _free_cards() < 1.0 - fraction / 2):
        raise RuntimeError(
            f"the client that is to be killed had no lease within {PATIENCE_SECONDS:g} s: nothing "
            "was measured"
        )


def _free_cards() -> float:
    import ray

    available = ray.available_resources()  # type: ignore[no-untyped-call]
    return float(available.get("GPU", 0.0))


def _comes_true(is_true: Callable[[], bool]) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
