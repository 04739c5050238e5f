"""How long a round of many clients takes beside its computing, for each client.

``flwr run apps/nlg`` with clients that do little: two steps of batch 2 on llama-tiny. What a round
takes is the seconds of its line in the metrics; what its clients computed is theirs, divided by the
processes that Ray gives them. The rest, for each client, is what this project, Flower and Ray spend
around the steps. The first round, in which every process reads texts and model, is left out.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.harness.machine import ROOT
from benchmarks.trial.trials import num_cores
from hsplit_flower.cli.local_flower import local_superlink, simulated_clients

NUM_CLIENTS: Final = (20, 60, 200)
AIM: Final = Target("<=", 0.10)
FLAT: Final = Target("<=", 1.25)


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Seconds beside the steps by number of clients, and how flat they are."""
    sizes = (4,) if settings.quick else NUM_CLIENTS
    beside: dict[int, float] = {}
    for num_clients in sizes:
        lines = rounds_of(num_clients, settings)
        taken = [line["seconds"] for line in lines]
        yield Figure.of_repeats(f"{num_clients} clients: seconds of a round", taken, "s")
        each = [beside_steps(line, num_clients) for line in lines]
        yield Figure.of_repeats(
            f"{num_clients} clients: beside the steps, of each",
            each,
            "s",
            target=None if settings.quick else AIM,
        )
        beside[num_clients] = sum(each) / len(each)
    yield Figure(
        name=f"{sizes[-1]} clients over {sizes[0]}",
        value=beside[sizes[-1]] / beside[sizes[0]],
        unit="ratio",
        target=FLAT,
    )


def rounds_of(num_clients: int, settings: Settings) -> list[dict[str, Any]]:
    """The lines of a run's rounds of training after the first."""
    scratch = settings.scratch / str(num_clients)
    config = {
        "num-server-rounds": 2 if settings.quick else 4,
        "local-steps": 2,
        "training.batch-size": 2,
        "training.seed": settings.seeds[0],
        "evaluation-examples": 2,
        "partition": "iid",
        "sampling.fraction-evaluate": 0.0,
        "sampling.min-train-nodes": num_clients,
        "sampling.min-available-nodes": num_clients,
        "output-dir": str(scratch),
        "run-name": "run",
    }
    told = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
    with local_superlink(scratch / "flower", simulation=True) as flower:
        options = ["--run-config", told, *simulated_clients(num_clients)]
        finished = flower.run(ROOT / "apps" / "nlg", options)
    if finished.failure:
        raise RuntimeError(f"flwr run did not finish: {finished.failure}\n{finished.log[-4000:]}")
    return _rounds(scratch / "run" / "metrics.jsonl")


def beside_steps(line: dict[str, Any], num_clients: int) -> float:
    """Seconds of a round that are no client's steps, for each client."""
    steps = sum(float(client["seconds"]) for client in line["clients"].values())
    return (float(line["seconds"]) - steps / num_cores()) / num_clients


def _rounds(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "clients" in line and line["server-round"] > 1]


BENCHMARK = Benchmark(
    name="many-clients",
    summary="What a round of 20, 60 and 200 clients takes beside its computing.",
    measure=measure,
)
