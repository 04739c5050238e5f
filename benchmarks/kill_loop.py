"""Is anything lost but what may be when parties die at random, for ten minutes?

A client's process, the worker, the ServerApp or the link fails at random moments, drawn from a
seed, with a given mean time between failures. Whoever is killed is started again at once, as a
supervisor does; the ServerApp goes on from the state that it left.
"""

import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from benchmarks.faults.catalogue import How, Party
from benchmarks.faults.run import DisturbedRun, clients_rounds_lost, disturbed_run
from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from hsplit_flower.server.checkpoint import read_state

MINUTES, QUICK_MINUTES = 10.0, 0.25
MEAN_SECONDS, QUICK_MEAN_SECONDS = 20.0, 5.0
# More than can be done in the time, after which the run is ended.
MOST_ROUNDS: Final = 10_000
NUM_STEPS: Final = 10
STEP_SECONDS: Final = 0.2
WAYS: Final = (
    (Party.CLIENT, How.KILL),
    (Party.CLIENT, How.STOP),
    (Party.WORKER, How.KILL),
    (Party.WORKER, How.STOP),
    (Party.SERVER, How.KILL),
    (Party.LINK, How.CUT),
    (Party.LINK, How.HANG),
)
LASTING_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 900.0
NOTHING: Final = Target("==", 0)


def measure(settings: Settings) -> Iterable[Figure | Detail]:
    """Failures, rounds done, and what was lost; more than the kills of clients explain is wrong."""
    quick = settings.quick
    chance = random.Random(settings.seeds[0])
    minutes = QUICK_MINUTES if quick else MINUTES
    mean_seconds = QUICK_MEAN_SECONDS if quick else MEAN_SECONDS
    with disturbed_run(
        settings.scratch / "run",
        num_rounds=MOST_ROUNDS,
        num_steps=NUM_STEPS,
        step_seconds=STEP_SECONDS,
    ) as run:
        run.start()
        failures = list(_disturbed(run, chance, 60.0 * minutes, mean_seconds))
        run.end_after_round()
        run.wait(PATIENCE_SECONDS)
        last = read_state(run.setup.state).server_round
        reports = run.reports()
    yield from _figures(failures, reports, last)
    yield Detail(name="failures", value=failures)
    yield Detail(name="rounds", value=reports)


def _disturbed(
    run: DisturbedRun, chance: random.Random, seconds: float, mean_seconds: float
) -> Iterable[tuple[float, str, str]]:
    """Have parties fail until the time is over; tell when, who and how."""
    started = time.monotonic()
    while True:
        # Exponential, so that a failure may come right after another.
        time.sleep(chance.expovariate(1.0 / mean_seconds))
        at = time.monotonic() - started
        if at > seconds:
            return
        party, how = chance.choice(WAYS)
        run.disturb(party, how, LASTING_SECONDS)
        yield at, party.value, how.value


def _figures(
    failures: list[tuple[float, str, str]], reports: list[Mapping[str, Any]], last: int
) -> Iterable[Figure]:
    for (party, how), number in sorted(Counter((p, h) for _, p, h in failures).items()):
        yield Figure(name=f"{party}: {how}", value=number, unit="")
    yield Figure(name="failures", value=len(failures), unit="", target=Target(">=", 1))
    yield Figure(name="rounds done", value=last, unit="", target=Target(">=", 1))
    told = {report["server-round"] for report in reports}
    missing = len(set(range(1, last + 1)) - told)
    yield Figure(name="rounds that are missing", value=missing, unit="", target=NOTHING)
    completed = sum(report["completed"] for report in reports)
    yield Figure(
        name="rounds that did not count", value=len(reports) - completed, unit="", target=NOTHING
    )
    lost = clients_rounds_lost(reports)
    kills = sum(p == Party.CLIENT.value and h == How.KILL.value for _, p, h in failures)
    yield Figure(name="clients' rounds lost", value=lost, unit="", target=Target("<=", kills))


BENCHMARK = Benchmark(
    name="kill-loop",
    summary="Ten minutes in which a random party dies every 20 s on average.",
    measure=measure,
)
