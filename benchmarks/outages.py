"""What does an outage of the link between clients and worker cost?

The link is cut in the second of three rounds for so long: while sessions open, in the midst of a
client's steps, and while results are collected. Every party is a process of its own, and nothing is
told of the outage.
"""

import time
from collections.abc import Iterable
from typing import Any, Final

from benchmarks.faults.catalogue import Fault, How, Party
from benchmarks.faults.moments import Place
from benchmarks.faults.run import clients_rounds_lost, disturbed_run
from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target

OUTAGES_SECONDS: Final = (5.0, 30.0, 60.0)
QUICK_SECONDS: Final = (1.0,)
PLACES: Final = (Place.OPENING, Place.MID_STEP, Place.COLLECTING)
DISTURBED_ROUND: Final = 2
NOTHING: Final = Target("==", 0)
# Starting the processes and the rounds themselves, beside the outage.
PATIENCE_SECONDS: Final = 300.0
# The longest pause between two tries, and a reconnection; what a busy machine adds is its own.
LONGEST_MORE_SECONDS: Final = 10.0


def measure(settings: Settings) -> Iterable[Figure | Detail]:
    """Rounds and clients lost, and seconds that the round took more than the one before it."""
    outages = QUICK_SECONDS if settings.quick else OUTAGES_SECONDS
    for place in PLACES:
        for seconds in outages:
            name = f"{seconds:g} s {place.value}"
            fault = Fault(party=Party.LINK, how=How.CUT, place=place, seconds=seconds)
            folder = settings.scratch / f"{place.name}-{seconds:g}"
            with disturbed_run(folder) as run:
                run.fail_at(fault, DISTURBED_ROUND)
                started = time.monotonic()
                run.start()
                run.wait(PATIENCE_SECONDS + seconds)
                wall_seconds = time.monotonic() - started
                reports = run.reports()
            yield from _figures(name, seconds, reports)
            yield Detail(name=name, value={"rounds": reports, "wall-seconds": wall_seconds})


def _figures(name: str, seconds: float, reports: list[Any]) -> Iterable[Figure]:
    lost = sum(not report["completed"] for report in reports)
    yield Figure(name=f"{name}: rounds lost", value=lost, unit="", target=NOTHING)
    dropped = clients_rounds_lost(reports)
    yield Figure(name=f"{name}: clients' rounds lost", value=dropped, unit="", target=NOTHING)
    # The first round has more to do than others; the third is undisturbed.
    disturbed, after = (reports[number - 1]["seconds"] for number in (2, 3))
    yield Figure(
        name=f"{name}: seconds beyond the outage",
        value=disturbed - after - seconds,
        unit="s",
        target=Target("<=", LONGEST_MORE_SECONDS),
    )


BENCHMARK = Benchmark(
    name="outages",
    summary="The link to the worker is cut for 5, 30 and 60 s at three moments of a round.",
    measure=measure,
)
