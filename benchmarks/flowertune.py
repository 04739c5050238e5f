"""FlowerTune's recipe on the built-in conversations: HSplitLoRA beside FedAvg of whole-model LoRA.

``flwr run apps/chat`` with ``training.preset="flowertune"``, on three clients that have as many
blocks or the whole model as the method asks for, whatever it takes. What is compared is the
perplexity of held-out answers. The preset's learning rates are those of models of 7B parameters:
both methods are run with rates that llama-tiny learns with, and once with the preset's own.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from benchmarks.harness import Benchmark, Detail, Figure, Settings
from benchmarks.tools.app_run import app_run
from hsplit_flower.reports import read_run

NUM_CLIENTS: Final = 3
OURS: Final = "hsplit-lora"
THEIRS: Final = "fed-lora"
OF_A_TINY_BASE: Final = "rates of a tiny base"
RATES: Final[Mapping[str, Mapping[str, str | float]]] = {
    OF_A_TINY_BASE: {
        "training.learning-rate": 2e-3,
        "training.final-learning-rate": 4e-5,
    },
    "the preset's rates": {"training.learning-rate": ""},
}
"""``apps/chat`` states a learning rate of its own, which an empty text leaves to the preset."""


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Perplexity before and after by method and seed, and the ratio of the two methods."""
    for rates in [OF_A_TINY_BASE] if settings.quick else RATES:
        seeds = settings.seeds if rates == OF_A_TINY_BASE else settings.seeds[:1]
        ends: dict[str, list[float]] = {}
        for strategy in (OURS, THEIRS):
            paths = [perplexities(strategy, rates, seed, settings) for seed in seeds]
            ends[strategy] = [path[-1] for path in paths]
            yield Figure.of_repeats(f"{strategy}, {rates}: perplexity", ends[strategy], "1")
            yield Detail(name=f"{strategy}, {rates}: by round", value=paths)
        ratios = [ours / theirs for ours, theirs in zip(ends[OURS], ends[THEIRS], strict=True)]
        yield Figure.of_repeats(f"{OURS} / {THEIRS}, {rates}", ratios, "1")


def perplexities(strategy: str, rates: str, seed: int, settings: Settings) -> list[float]:
    """Of held-out answers, before the first round and after each."""
    config = {
        "training.preset": "flowertune",
        **RATES[rates],
        "strategy": strategy,
        "num-server-rounds": 1 if settings.quick else 5,
        "training.seed": seed,
        "evaluation-examples": 16 if settings.quick else 100,
        "sampling.fraction-evaluate": 0.0,
        "sampling.min-train-nodes": NUM_CLIENTS,
        "sampling.min-available-nodes": NUM_CLIENTS,
        # All have all that a method may ask for: what is compared is what it learns.
        "simulation.fleet": ",".join(["16GB"] * NUM_CLIENTS),
        # Processors without instructions for bfloat16 take ten times as long in it.
        "model.dtype": "nf4",
        "model.computing-dtype": "float32",
    }
    if settings.quick:
        config |= {"local-steps": 1, "training.batch-size": 2}
    place = settings.scratch / f"{strategy}-{rates.replace(' ', '-')}-{seed}"
    folder, _ = app_run(config, place, NUM_CLIENTS, app="chat")
    return [line.perplexity for line in read_run(folder).server_evaluations]


BENCHMARK = Benchmark(
    name="flowertune",
    summary="FlowerTune's recipe on conversations: HSplitLoRA beside FedAvg of whole-model LoRA.",
    measure=measure,
    seeds=(0, 1, 2),
)
