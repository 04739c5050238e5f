"""How long planning takes, and whether its plans are the best there are.

Time is that of the process on one core, for LLaMA-2-7B from its configuration. The best cuts and
ranks of small random problems are known from trying everything.
"""

import functools
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from transformers import LlamaConfig

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from hsplit_flower.costs import ModelCosts, Workload, trace_costs, whole_model_memory
from hsplit_flower.errors import InfeasibleBudgetError
from hsplit_flower.planning import (
    ClientOptions,
    WorkerOptions,
    choose_cuts,
    makespan,
    plan,
    rank_gain,
)
from hsplit_flower.planning.ranks import greedy_ranks, greedy_steps
from hsplit_flower.types import DeviceProfile
from tests.reference.planning import best_gain, best_makespan

NUM_CLIENTS: Final = 1000
NUM_BLOCKS: Final = 32
# Clients and blocks, from a small problem to a large one.
SIZES: Final = ((250, 16), (500, 32), (1000, 32), (1000, 64), (4000, 32))
SIZES_QUICK: Final = ((250, 16), (1000, 32), (2000, 32))
# No faster than clients x blocks; the twentieth is left to the clock.
GROWTH_TARGET: Final = Target("<=", 1.05)
NUM_INSTANCES: Final = 200
ALLOWED_RANKS: Final = (0, 1, 2, 4)
SAME: Final = 1e-9


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Time of the big problem, growth, and quality on small ones."""
    seed = settings.seeds[0]
    repeats = 3 if settings.quick else 7
    sizes = SIZES_QUICK if settings.quick else SIZES
    seconds = {
        size: planning_seconds(costs_of(size[1]), size[0], seed=seed, repeats=repeats)
        for size in dict.fromkeys([*sizes, (NUM_CLIENTS, NUM_BLOCKS)])
    }
    yield Figure.of_repeats(
        f"{NUM_CLIENTS} clients x {NUM_BLOCKS} blocks",
        seconds[NUM_CLIENTS, NUM_BLOCKS],
        "s",
        Target("<", 2.0),
    )
    yield Figure(
        name="growth, exponent of clients x blocks",
        value=growth({size: min(seconds[size]) for size in sizes}),
        unit="",
        target=GROWTH_TARGET,
    )
    yield Detail(
        name="seconds by size",
        value=[{"clients": c, "blocks": b, "seconds": taken} for (c, b), taken in seconds.items()],
    )
    yield from _quality(random.Random(seed))


def _quality(source: random.Random) -> Iterator[Figure | Detail]:
    outcomes: list[bool] = []
    num_impossible = 0
    while len(outcomes) < NUM_INSTANCES:
        is_best = check_cuts(source)
        if is_best is None:
            num_impossible += 1
        else:
            outcomes.append(is_best)
    yield Detail(name="problems rightly refused", value=num_impossible)
    target = Target("==", NUM_INSTANCES)
    yield Figure(
        name="makespans equal to the best", value=sum(outcomes), unit="of 200", target=target
    )
    checks = [check_ranks(source) for _ in range(NUM_INSTANCES)]
    yield Figure(
        name="ranks within the bound",
        value=sum(check.is_within_bound for check in checks),
        unit="of 200",
        target=target,
    )
    losses = [check.loss for check in checks]
    yield Figure(name="gain lost to the best ranks, mean", value=_mean(losses), unit="share")
    yield Figure(name="gain lost to the best ranks, most", value=max(losses), unit="share")


@functools.cache
def costs_of(num_blocks: int) -> ModelCosts:
    """LLaMA-2-7B, with as many blocks."""
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=num_blocks,
        num_attention_heads=32,
        vocab_size=32000,
        max_position_embeddings=4096,
    )
    workload = Workload(batch_size=4, sequence_length=512, dtype_bytes=2, wire_dtype_bytes=2)
    return trace_costs(config, workload)


def planning_seconds(
    costs: ModelCosts, num_clients: int, *, seed: int, repeats: int
) -> list[float]:
    """Processor time of plans for unlike clients, with importance known."""
    source = random.Random(seed)
    whole = whole_model_memory(costs, rank=16).total_bytes
    profiles = {
        client: DeviceProfile(
            memory_bytes=source.uniform(0.1, 1.0) * whole,
            flops_per_second=source.uniform(1e12, 1e13),
            up_bytes_per_second=source.uniform(1e6, 1e8),
            down_bytes_per_second=source.uniform(1e6, 1e8),
        )
        for client in range(num_clients)
    }
    importance = {weight.name: source.random() for weight in costs.weights}
    worker = DeviceProfile(memory_bytes=1e14, flops_per_second=1e15)
    return [
        _processor_seconds(lambda: plan(costs, profiles, worker, importance=importance))
        for _ in range(repeats)
    ]


def growth(seconds: Mapping[tuple[int, int], float]) -> float:
    """Slope of log seconds over log(clients x blocks), by least squares."""
    points = [(math.log(c * b), math.log(taken)) for (c, b), taken in seconds.items()]
    x, y = (_mean(list(axis)) for axis in zip(*points, strict=True))
    covariance = sum((a - x) * (b - y) for a, b in points)
    return covariance / sum((a - x) ** 2 for a, _ in points)


def check_cuts(source: random.Random) -> bool | None:
    """Whether the cuts of a random small problem have the best makespan; None if rightly refused.

    It is refused where the worker's memory holds no cuts at all.
    """
    num_blocks = source.randint(2, 6)
    clients = {client: _client(source, num_blocks) for client in range(source.randint(1, 4))}
    worker = WorkerOptions(
        seconds=_rising(source, num_blocks)[::-1],
        base_bytes=_rising(source, num_blocks)[::-1],
        session_bytes=_rising(source, num_blocks)[::-1],
        budget_bytes=source.uniform(0.0, 25.0 * num_blocks),
    )
    best = best_makespan(clients, worker, 1)
    try:
        cuts = choose_cuts(clients, worker)
    except InfeasibleBudgetError:
        return None if best is None else False
    return best is not None and math.isclose(
        makespan(cuts, clients, worker), best, rel_tol=SAME, abs_tol=SAME
    )


@dataclass(frozen=True, kw_only=True)
class RankCheck:
    """How the ranks of one problem compare with the best: share lost, and whether as promised."""

    loss: float
    is_within_bound: bool


def check_ranks(source: random.Random) -> RankCheck:
    """Greedy ranks of a random small problem: the best, less at most the first step left out."""
    names = [f"w{index}" for index in range(source.randint(1, 5))]
    rank_bytes = {name: float(source.randint(1, 30)) for name in names}
    importance = {name: source.uniform(0.0, 100.0) for name in names}
    base = source.uniform(0.05, 0.95)
    budget = source.uniform(0.0, 1.1) * ALLOWED_RANKS[-1] * sum(rank_bytes.values())
    ladder = greedy_steps(rank_bytes, importance, allowed_ranks=ALLOWED_RANKS, gain_base=base)
    ranks = greedy_ranks(ladder, budget)
    gain = sum(importance[name] * rank_gain(rank, base) for name, rank in ranks.items())
    best = best_gain(
        list(rank_bytes.values()),
        list(importance.values()),
        budget_bytes=budget,
        allowed_ranks=ALLOWED_RANKS,
        gain_base=base,
    )
    spent, bound = 0.0, 0.0
    for step in ladder.steps:
        spent += step.cost_bytes
        if spent > budget:
            bound = step.gain
            break
    used = sum(rank * rank_bytes[name] for name, rank in ranks.items())
    return RankCheck(
        loss=1.0 - gain / best if best else 0.0,
        is_within_bound=used <= budget + SAME and gain >= best - bound - SAME * max(1.0, best),
    )


def _client(source: random.Random, num_blocks: int) -> ClientOptions:
    deepest = source.randint(1, num_blocks)
    return ClientOptions(
        seconds=_rising(source, num_blocks), deepest=deepest, roomy=source.randint(1, deepest)
    )


def _rising(source: random.Random, num_blocks: int) -> list[float]:
    steps = [round(source.uniform(0.0, 4.0), 2) for _ in range(num_blocks + 1)]
    return [sum(steps[: index + 1]) for index in range(num_blocks + 1)]


def _processor_seconds(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


BENCHMARK = Benchmark(
    name="planning", summary="How long planning takes, and how good plans are.", measure=measure
)
