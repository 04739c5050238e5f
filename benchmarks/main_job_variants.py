"""What does the main job lose with a base of four bits, and what does LoRA's own recipe bring it?

``flwr run apps/nlg`` as in the main job, each time with one thing changed. Compared are the
perplexities of the same dev examples, and the most memory that a client's round took.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.main_job import Job, federated
from hsplit_flower.reports import read_run

UNCHANGED: Final = "as it is"
QUANTISED: Final = "in nf4"
SCHEDULE: Final[Mapping[str, str | float]] = {
    "training.schedule": "linear",
    "training.warmup-steps": 0.01,
}
# The recipe's batch stays the job's, so that all variants read as many examples.
RECIPE: Final[Mapping[str, str | float]] = {"training.preset": "lora-e2e"}
VARIANTS: Final[Mapping[str, Mapping[str, str | float]]] = {
    UNCHANGED: {},
    QUANTISED: {"model.dtype": "nf4"},
    "with lora-e2e's schedule": SCHEDULE,
    "with lora-e2e": RECIPE,
    "with lora-e2e and its rate": {**RECIPE, "training.learning-rate": 2e-4},
}
AIMS: Final = {QUANTISED: Target("<=", 1.03)}


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Perplexity and memory of each variant, and its perplexity over that of the job as it is."""
    job = Job.from_settings(settings)
    unchanged = 0.0
    for name, changes in VARIANTS.items():
        if settings.quick and name not in (UNCHANGED, QUANTISED):
            continue
        folder = federated(job, settings.scratch / name.replace(" ", "-"), changes)["folder"]
        run = read_run(folder)
        curve = [line.perplexity for line in run.server_evaluations]
        peaks = [client.peak_bytes for line in run.training for client in line.clients.values()]
        yield Detail(name=f"by round, {name}", value=curve)
        yield Figure(name=f"perplexity, {name}", value=curve[-1], unit="")
        yield Figure(name=f"most memory of a client, {name}", value=max(peaks), unit="B")
        if name == UNCHANGED:
            unchanged = curve[-1]
            continue
        ratio = curve[-1] / unchanged
        aim = None if settings.quick else AIMS.get(name)
        yield Figure(name=f"{name} / {UNCHANGED}", value=ratio, unit="ratio", target=aim)


BENCHMARK = Benchmark(
    name="main-job-variants",
    summary="The main job in four bits, and with LoRA's own recipe, beside itself.",
    measure=measure,
)
