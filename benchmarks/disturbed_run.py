"""What do devices that are away, and a budget that is halved, cost in quality?

``flwr run apps/nlg`` on E2E twice, with five clients of the heterogeneous fleet and one seed: once
undisturbed, and once with every device away in a fifth of the rounds and the strongest one's memory
halved in mid-run. Shorter than the main job: what counts is the ratio of the two.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.main_job import NUM_CLIENTS, Job, federated

RATIO = Target("<=", 1.05)
UNAVAILABLE = 0.2
# Of the heterogeneous fleet's five devices the last has the most memory.
HALVED = NUM_CLIENTS - 1
# A round counts with this many clients; of five, fewer are there once in 17 rounds.
LEAST_CLIENTS = 3


def measure(settings: Settings) -> Iterable[Figure | Detail]:
    """Run both, and compare how well the models predict the same dev examples."""
    job = _job(settings)
    middle = 1 + job.num_rounds // 2
    disturbances: dict[str, str | int | float | bool] = {
        "simulation.unavailable": UNAVAILABLE,
        "simulation.budget-changes": f"{middle}:{HALVED}=0.5",
        "sampling.min-train-nodes": LEAST_CLIENTS,
    }
    finals: list[float] = []
    for name, more in {"undisturbed": {}, "disturbed": disturbances}.items():
        started = time.perf_counter()
        run = federated(job, settings.scratch / name, more)
        seconds = time.perf_counter() - started
        curve = [line["perplexity"] for line in run["metrics"] if "perplexity" in line]
        rounds = [line for line in run["metrics"] if "clients" in line]
        _check_nobody_died(rounds)
        if not finals:
            yield Figure(name="perplexity before", value=curve[0], unit="")
        finals.append(curve[-1])
        yield Figure(name=f"perplexity, {name}", value=curve[-1], unit="")
        yield Figure(name=f"seconds, {name}", value=seconds, unit="s")
        if more:
            yield from _disturbance(rounds, middle)
        yield Detail(name=name, value={"perplexity": curve, "rounds": rounds})
    ratio = finals[1] / finals[0]
    yield Figure(name="disturbed / undisturbed", value=ratio, unit="ratio", target=RATIO)


def _job(settings: Settings) -> Job:
    """The main job, shortened."""
    quick = settings.quick
    return Job.from_settings(
        settings,
        num_rounds=2 if quick else 8,
        local_steps=2 if quick else 12,
        evaluation_examples=32 if quick else 500,
    )


def _check_nobody_died(rounds: list[Mapping[str, Any]]) -> None:
    """See that nothing but what was meant to has kept clients out.

    Raises
    ------
    RuntimeError
        With the reasons: a machine that lacks memory kills clients, and then nothing is measured.
    """
    reasons = {
        str(client["dropped"])[:300]
        for line in rounds
        for client in line["clients"].values()
        if client["dropped"] and "OutOfBudgetError" not in client["dropped"]
    }
    if reasons:
        raise RuntimeError(f"clients died, so nothing was measured: {sorted(reasons)}")


def _disturbance(rounds: list[Mapping[str, Any]], middle: int) -> Iterable[Figure]:
    """That it was one: who was away, what was halved, and that the run coped."""
    left_out = [one for line in rounds for one in line["left-out"].values()]
    away = sum(one["kind"] == "away" for one in left_out)
    yield Figure(name="client-rounds away", value=away, unit="", target=Target(">=", 1))
    completed = sum(line["completed"] for line in rounds)
    target = Target("==", len(rounds))
    yield Figure(name="rounds completed", value=completed, unit="", target=target)
    largest = [
        max(client["budget-bytes"] for client in line["clients"].values()) for line in rounds
    ]
    yield Figure(
        name="largest budget, last round / first",
        value=largest[-1] / max(largest[: middle - 1]),
        unit="ratio",
        target=Target("<", 1.0),
    )
    over = sum(
        client["peak-bytes"] > client["budget-bytes"]
        for line in rounds
        for client in line["clients"].values()
    )
    yield Figure(name="clients over their budget", value=over, unit="", target=Target("==", 0))


BENCHMARK = Benchmark(
    name="disturbed-run",
    summary="flwr run on E2E with devices away and a budget halved, against the same undisturbed.",
    measure=measure,
)
