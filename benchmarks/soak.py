"""Does anything grow while sessions come and go?

Ten clients, the ServerApp and a worker that runs alone, a process each, go through twenty rounds:
200 sessions. After each round every process is asked for what it has: resident memory, threads,
descriptors. The first rounds are left out, in which caches fill and the global adapter grows.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Final

from benchmarks.faults.run import DisturbedRun, clients_rounds_lost, disturbed_run
from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.harness.memory import ProcessUse, use_of

NUM_CLIENTS, NUM_ROUNDS = 10, 20
QUICK_CLIENTS, QUICK_ROUNDS = 2, 8
NUM_STEPS: Final = 4
POLL_SECONDS: Final = 0.05
PATIENCE_SECONDS: Final = 1800.0
FLAT: Final = Target("<=", 1.02)
NOTHING: Final = Target("==", 0)

Uses = Mapping[str, ProcessUse]
"""By party."""


def measure(settings: Settings) -> Iterable[Figure | Detail]:
    """Memory of the last quarter over the second one, and what there is more of at the end."""
    quick = settings.quick
    num_rounds = QUICK_ROUNDS if quick else NUM_ROUNDS
    num_clients = QUICK_CLIENTS if quick else NUM_CLIENTS
    with disturbed_run(
        settings.scratch / "run",
        num_rounds=num_rounds,
        num_steps=NUM_STEPS,
        num_clients=num_clients,
    ) as run:
        run.start()
        uses = list(_observed(run, num_rounds))
        run.wait(PATIENCE_SECONDS)
        reports = run.reports()
    yield Figure(name="sessions", value=num_clients * num_rounds, unit="")
    yield Figure(
        name="clients' rounds lost", value=clients_rounds_lost(reports), unit="", target=NOTHING
    )
    quarter = len(uses) // 4
    early, late = uses[quarter : 2 * quarter], uses[-quarter:]
    parties = {"worker": "worker", "server": "ServerApp", "client-0": "a client"}
    for party, name in parties.items():
        yield from _figures(name, _of(party, early), _of(party, late), judged=not quick)
    yield Detail(
        name="uses", value=[{who: asdict(use) for who, use in each.items()} for each in uses]
    )


def _observed(run: DisturbedRun, num_rounds: int) -> Iterable[Uses]:
    """What every process has after each round."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for done in range(1, num_rounds):
        while len(run.reports()) < done:
            if time.monotonic() > deadline:
                raise TimeoutError(f"round {done} of {num_rounds} did not end")
            time.sleep(POLL_SECONDS)
        yield {name: use_of(process) for name, process in run.process_ids().items()}


def _of(party: str, uses: Sequence[Uses]) -> list[ProcessUse]:
    return [each[party] for each in uses]


def _figures(
    name: str, early: Sequence[ProcessUse], late: Sequence[ProcessUse], *, judged: bool
) -> Iterable[Figure]:
    ratio = median(u.resident_bytes for u in late) / median(u.resident_bytes for u in early)
    yield Figure(
        name=f"{name}: memory, late over early",
        value=ratio,
        unit="ratio",
        target=FLAT if judged else None,
    )
    for what in ("threads", "descriptors"):
        # A thread that lives for a moment is met by chance; what stays is in the median.
        before, after = (
            median(getattr(use, f"num_{what}") for use in uses) for uses in (early, late)
        )
        yield Figure(name=f"{name}: {what} more", value=after - before, unit="", target=NOTHING)


BENCHMARK = Benchmark(
    name="soak",
    summary="What 200 sessions in 20 rounds leave behind: memory, threads, descriptors.",
    measure=measure,
)
