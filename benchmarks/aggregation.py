"""Noise-free aggregation of many clients' adapters, beside the two plain ways to the same sum.

The weights are LLaMA-2-7B's: 32 blocks of seven. All 224 of them by all methods would take hours
where an SVD of 4096 x 11008 takes a minute, so each method is timed on weights of each distinct
shape, in turns, and a model's time is the shapes' median times their count. Errors are against the
float64 sum.

The two other ways are `dense_sum`, which adds up ``p B A`` as full matrices, to be kept as such,
and the SVD of that sum, which gives factors again as ours does.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final

import torch
from torch import Tensor

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from hsplit_flower.adapters import LowRank
from hsplit_flower.aggregation.contribution import Contribution
from hsplit_flower.aggregation.noise_free import aggregate

NUM_BLOCKS: Final = 32
MAX_ERROR: Final = Target("<=", 1e-6)
RANKS: Final = (4, 32)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A weight's shape, and how many of a block's weights have it."""

    out_features: int
    in_features: int
    per_block: int

    def __str__(self) -> str:
        return f"{self.out_features} x {self.in_features}"


LLAMA_2_7B: Final = (
    Shape(out_features=4096, in_features=4096, per_block=4),
    Shape(out_features=11008, in_features=4096, per_block=2),
    Shape(out_features=4096, in_features=11008, per_block=1),
)
EIGHTH: Final = (
    Shape(out_features=512, in_features=512, per_block=4),
    Shape(out_features=1376, in_features=512, per_block=2),
    Shape(out_features=512, in_features=1376, per_block=1),
)


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Times and errors of 20 clients, then how ours grows with clients and ranks."""
    shapes = EIGHTH if settings.quick else LLAMA_2_7B
    repeats = 5
    generator = torch.Generator().manual_seed(settings.seeds[0])
    totals: dict[str, list[float]] = {}
    errors: list[float] = []
    for shape in shapes:
        contributions = make_contributions(shape, 20, RANKS, generator)
        start = LowRank.zeros(shape.out_features, shape.in_features)
        exact = exact_sum(contributions)
        # An SVD of the full shape takes minutes: once, and it is not close.
        counts = {"ours": repeats, "dense sum": repeats, "SVD": repeats if settings.quick else 1}
        ways: dict[str, Callable[[], object]] = {
            "ours": partial(aggregate, start, contributions),
            "dense sum": partial(dense_sum, contributions),
            "SVD": partial(plain_svd, contributions),
        }
        seconds = timed_in_turns(ways, counts)
        for name, taken in seconds.items():
            yield Figure.of_repeats(f"{shape}: {name}", taken, "s")
            count = shape.per_block * NUM_BLOCKS
            totals.setdefault(name, []).append(count * median(taken))
        ours = aggregate(start, contributions)
        errors.append(relative_error(ours.b.double() @ ours.a.double(), exact))
        yield Figure(name=f"{shape}: error", value=errors[-1], unit="1", target=MAX_ERROR)
        dense_error = relative_error(dense_sum(contributions).double(), exact)
        yield Figure(name=f"{shape}: error of the dense sum", value=dense_error, unit="1")
    model = {name: sum(parts) for name, parts in totals.items()}
    for name, total in model.items():
        yield Figure(name=f"224 weights: {name}", value=total, unit="s")
    for name in ("dense sum", "SVD"):
        ratio = model["ours"] / model[name]
        # At an eighth of the width the ranks are no longer low: the promise is for the full one.
        target = None if settings.quick else Target("<", 1.0)
        yield Figure(name=f"ours / {name}", value=ratio, unit="1", target=target)
    yield from _growth(shapes[0], generator, repeats)
    yield Detail(name="scaled by", value={str(s): s.per_block * NUM_BLOCKS for s in shapes})


def _growth(shape: Shape, generator: torch.Generator, repeats: int) -> Iterator[Figure]:
    start = LowRank.zeros(shape.out_features, shape.in_features)
    for num_clients, ranks in ((5, RANKS), (10, RANKS), (20, RANKS), (20, (4, 4)), (20, (16, 16))):
        contributions = make_contributions(shape, num_clients, ranks, generator)
        way = {"": partial(aggregate, start, contributions)}
        taken = timed_in_turns(way, {"": repeats})[""]
        stacked = sum(contribution.trained.rank for contribution in contributions)
        name = f"{shape}: {num_clients} clients of rank {ranks[0]}-{ranks[1]} ({stacked} in all)"
        yield Figure.of_repeats(name, taken, "s")


def make_contributions(
    shape: Shape, num_clients: int, ranks: tuple[int, int], generator: torch.Generator
) -> list[Contribution]:
    """Clients with ranks spread over a range, and training sets of different size."""
    lowest, highest = ranks
    made = []
    for index in range(num_clients):
        rank = lowest + round((highest - lowest) * index / max(1, num_clients - 1))
        made.append(
            Contribution(
                num_examples=50 + 10 * index,
                initial=LowRank.zeros(shape.out_features, shape.in_features),
                trained=LowRank(
                    b=0.02 * torch.randn(shape.out_features, rank, generator=generator),
                    a=torch.randn(rank, shape.in_features, generator=generator),
                ),
            )
        )
    return made


def exact_sum(contributions: Sequence[Contribution]) -> Tensor:
    """``Σ p B A`` in float64."""
    total = sum(c.num_examples for c in contributions)
    b = torch.cat([c.num_examples / total * c.trained.b.double() for c in contributions], dim=1)
    return b @ torch.cat([c.trained.a.double() for c in contributions])


def dense_sum(contributions: Sequence[Contribution]) -> Tensor:
    """``Σ p B A`` in float32, one client's full matrix after the other."""
    total = sum(c.num_examples for c in contributions)
    first = contributions[0].trained
    dense = torch.zeros(first.out_features, first.in_features)
    for contribution in contributions:
        share = contribution.num_examples / total
        dense.addmm_(contribution.trained.b, contribution.trained.a, alpha=share)
    return dense


def plain_svd(contributions: Sequence[Contribution]) -> LowRank:
    """The dense sum's own factors."""
    u, s, v = torch.linalg.svd(dense_sum(contributions), full_matrices=False)
    rank = int((s > 1e-6 * s[0]).sum())
    return LowRank(b=u[:, :rank] * s[:rank], a=v[:rank])


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """Norm of the difference over the norm of what is wanted."""
    return float((got - wanted).norm() / wanted.norm())


def timed_in_turns(
    ways: Mapping[str, Callable[[], object]], counts: Mapping[str, int]
) -> dict[str, list[float]]:
    """Seconds of each way, one after the other, as often as its count says."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(max(counts.values())):
        for name, way in ways.items():
            if repeat < counts[name]:
                started = time.perf_counter()
                way()
                taken[name].append(time.perf_counter() - started)
    return taken


BENCHMARK = Benchmark(
    name="aggregation",
    summary="Exact aggregation of 20 clients' adapters, beside the dense sum and its SVD.",
    measure=measure,
)
