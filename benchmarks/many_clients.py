"""How long a round of many clients takes beside its computing, for each client.

``flwr run apps/nlg`` with clients that do little: two steps of batch 2 on llama-tiny. What a round
takes is the seconds of its line in the metrics; what its clients computed is theirs, divided by the
processes that Ray gives them. The rest, for each client, is what this project, Flower and Ray spend
around the steps. The first round, in which every process reads texts and model, is left out.
"""

from collections.abc import Iterator
from typing import Final

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.tools.app_run import app_run
from benchmarks.trial.trials import num_cores
from hsplit_flower.reports import TrainingLine, read_run

NUM_CLIENTS: Final = (20, 60, 200)
AIM: Final = Target("<=", 0.10)
FLAT: Final = Target("<=", 1.25)


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Seconds beside the steps by number of clients, and how flat they are."""
    sizes = (4,) if settings.quick else NUM_CLIENTS
    beside: dict[int, float] = {}
    for num_clients in sizes:
        lines = rounds_of(num_clients, settings)
        taken = [line.seconds for line in lines]
        yield Figure.of_repeats(f"{num_clients} clients: seconds of a round", taken, "s")
        each = [beside_steps(line) for line in lines]
        yield Figure.of_repeats(
            f"{num_clients} clients: beside the steps, of each",
            each,
            "s",
            target=None if settings.quick else AIM,
        )
        beside[num_clients] = sum(each) / len(each)
    if len(sizes) > 1:
        yield Figure(
            name=f"{sizes[-1]} clients over {sizes[0]}",
            value=beside[sizes[-1]] / beside[sizes[0]],
            unit="ratio",
            target=FLAT,
        )


def rounds_of(num_clients: int, settings: Settings) -> list[TrainingLine]:
    """A run's rounds of training after the first."""
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
    }
    folder, _ = app_run(config, settings.scratch / str(num_clients), num_clients)
    return [line for line in read_run(folder).training if line.server_round > 1]


def beside_steps(line: TrainingLine) -> float:
    """Seconds of a round that are no client's steps, for each client."""
    steps = sum(client.seconds or 0.0 for client in line.clients.values())
    return (line.seconds - steps / num_cores()) / len(line.clients)


BENCHMARK = Benchmark(
    name="many-clients",
    summary="What a round of 20, 60 and 200 clients takes beside its computing.",
    measure=measure,
)
