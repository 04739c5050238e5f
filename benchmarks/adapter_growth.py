"""A global adapter of bounded size against one that grows: bytes, seconds, memory, quality.

What is asked is what a bound costs in quality, and whether anything still grows with the rounds.
Trials train five unequal clients of E2E on one whole model (`benchmarks.trial`), so bytes down are
those of the whole adapter: a client gets its part below the cut. GPT-2 124M has random weights, its
bytes and seconds are what counts. One aggregation at LLaMA-2-7B's shapes is measured on a weight of
each shape, times their count, as in ``aggregation``.

Each trial is written down as it ends in ``results/adapter-growth.jsonl``, and a run that was
stopped goes on from there.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from benchmarks.aggregation import (
    LLAMA_2_7B,
    NUM_BLOCKS,
    RANKS,
    Shape,
    make_contributions,
    timed_in_turns,
)
from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.harness.machine import ROOT
from benchmarks.tools.growth import growth_of
from benchmarks.trial import Curve, Setting, Trials
from hsplit_flower.adapters import LowRank, UpdateSum
from hsplit_flower.aggregation import aggregate, bounded, change, head_of
from hsplit_flower.aggregation.contribution import Contribution
from hsplit_flower.settings import Aggregation, Planning, Training

SEED = "training.seed"
UNBOUNDED = {"aggregation": Aggregation(mean_rank=0)}
BOUNDED = {"aggregation": Aggregation()}
# The curve over sizes; the rank of one weight may be four times the mean.
SIZES = {
    rank: {"aggregation": Aggregation(mean_rank=rank, rank_cap=4 * rank)} for rank in (4, 8, 16, 64)
}
BUDGETS = (6.0, 8.0, 10.0, 12.0, 16.0)
FLAT_BYTES = Target("<=", 1.05)
FLAT_SECONDS = Target("<=", 1.10)
QUALITY = Target("<=", 1.005)
QUARTER = Target("<=", 0.25)
SMALL = Target("<=", 10.0)
EXACT = Target("<=", 1e-6)
AS_FAST = Target("<=", 1.3)

_mean = Figure.of_mean


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Quality and growth on the tiny bases, GPT-2's bytes, and one aggregation of a large model."""
    folder = settings.scratch if settings.quick else ROOT / "results"
    trials = Trials(folder / "adapter-growth.jsonl", growth_of)
    plain = _plain(settings)
    bases = {"llama-tiny": plain}
    if not settings.quick:
        second = (settings.shared_data / "base" / "gpt2-tiny").resolve()
        bases["gpt2-tiny"] = replace(plain, model=str(second))
    wanted = {
        (label, name): [base.changed({SEED: seed, **arm}) for seed in settings.seeds]
        for label, base in bases.items()
        for name, arm in (("unbounded", UNBOUNDED), ("bounded", BOUNDED))
    }
    done = trials.run(setting for several in wanted.values() for setting in several)
    curves = {key: [done[setting] for setting in several] for key, several in wanted.items()}
    for label in bases:
        yield from _growth(label, curves[label, "unbounded"], curves[label, "bounded"])
    yield from _sizes(trials, plain, curves["llama-tiny", "unbounded"], settings)
    yield from _gpt2(trials, plain, settings)
    yield from _large(settings)


def _plain(settings: Settings) -> Setting:
    dataset = settings.shared_data / "e2e"
    if not (dataset / "trainset.csv").is_file():
        raise SystemExit(f"adapter-growth needs the E2E data set in {dataset}, which is not there")
    quick = settings.quick
    return Setting(
        model="llama-tiny",
        dataset=str(dataset.resolve()),
        budgets=BUDGETS[:2] if quick else BUDGETS,
        training=Training(learning_rate=8e-3, batch_size=4),
        planning=Planning(max_rank=16),
        num_rounds=3 if quick else 30,
        local_steps=1 if quick else 8,
        evaluation_examples=16 if quick else 300,
        autocast=False,
    )


def _growth(label: str, grown: list[Curve], bounded: list[Curve]) -> Iterator[Figure | Detail]:
    """Of one base: three seeds without a bound, and the same three with one."""
    last = len(bounded[0])
    for server_round in sorted({min(8, last), last}):
        ratios = [
            _at(curve, server_round)["perplexity"] / _at(other, server_round)["perplexity"]
            for curve, other in zip(bounded, grown, strict=True)
        ]
        name = f"{label}: perplexity bounded / unbounded, round {server_round}"
        yield _mean(name, ratios, "ratio", QUALITY)
        shares = [
            _at(curve, server_round)["down-bytes"] / _at(other, server_round)["down-bytes"]
            for curve, other in zip(bounded, grown, strict=True)
        ]
        yield _mean(f"{label}: bytes, round {server_round}, of both", shares, "ratio", QUARTER)
    for name, curves in (("unbounded", grown), ("bounded", bounded)):
        is_bounded = name == "bounded"
        told = partial(_of_each, curves)
        for key, unit in (("perplexity", ""), ("down-bytes", "B"), ("up-bytes", "B")):
            yield _mean(f"{label}, {name}: {key}, last round", told(last, key), unit)
        for key in ("adapter-bytes", "held-bytes"):
            yield _mean(f"{label}, {name}: {key}", told(last, key), "B")
        down = [a / b for a, b in zip(told(last, "down-bytes"), told(2, "down-bytes"), strict=True)]
        target = FLAT_BYTES if is_bounded else None
        yield _mean(f"{label}, {name}: bytes down, last round / round 2", down, "ratio", target)
        if last >= 30:
            slower = [_seconds(curve, 26, 30) / _seconds(curve, 3, 7) for curve in curves]
            target = FLAT_SECONDS if is_bounded else None
            yield _mean(f"{label}, {name}: seconds, rounds 26-30 / 3-7", slower, "ratio", target)
        worst = max(line["error"] for curve in curves for line in curve)
        yield Figure(name=f"{label}, {name}: error", value=worst, unit="1", target=EXACT)
        yield Detail(name=f"{label}, {name}", value=curves)


def _sizes(
    trials: Trials, plain: Setting, grown: list[Curve], settings: Settings
) -> Iterator[Figure]:
    """What other sizes cost after eight rounds; a quick run has one of them."""
    rounds = plain.num_rounds if settings.quick else 8
    short = replace(plain, num_rounds=rounds)
    sizes = {16: SIZES[16]} if settings.quick else SIZES
    wanted = {
        rank: [short.changed({SEED: seed, **arm}) for seed in settings.seeds]
        for rank, arm in sizes.items()
    }
    done = trials.run(setting for several in wanted.values() for setting in several)
    for rank in sizes:
        ratios = [
            done[one][-1]["perplexity"] / _at(other, rounds)["perplexity"]
            for one, other in zip(wanted[rank], grown, strict=True)
        ]
        yield _mean(f"mean rank {rank}: perplexity / unbounded, round {rounds}", ratios, "ratio")


def _gpt2(trials: Trials, plain: Setting, settings: Settings) -> Iterator[Figure | Detail]:
    """Three rounds on GPT-2's shape, a fraction of it in a quick run."""
    folder = settings.scratch / "gpt2"
    _save_gpt2(folder, settings)
    there = replace(
        plain, model=str(folder), num_rounds=3, local_steps=1, evaluation_examples=4
    ).changed({"training.batch_size": 2})
    arms = {name: there.changed(arm) for name, arm in _ARMS.items()}
    # One after the other: the copies of two trials at once are too much for small machines.
    done = {name: trials.run([setting])[setting] for name, setting in arms.items()}
    for name, curve in done.items():
        target = SMALL if name == "bounded" else None
        megabytes = curve[-1]["adapter-bytes"] / 1e6
        yield Figure(name=f"GPT-2, {name}: adapter", value=megabytes, unit="MB", target=target)
        down = curve[-1]["down-bytes"] / 1e6
        yield Figure(name=f"GPT-2, {name}: bytes down", value=down, unit="MB")
        held = curve[-1]["held-bytes"] / 1e6
        yield Figure(name=f"GPT-2, {name}: kept on the server", value=held, unit="MB")
        yield Figure(name=f"GPT-2, {name}: round 3", value=curve[-1]["seconds"], unit="s")
        yield Figure(name=f"GPT-2, {name}: error", value=curve[-1]["error"], unit="1", target=EXACT)
        yield Detail(name=f"GPT-2, {name}", value=curve)


_ARMS = {"unbounded": UNBOUNDED, "bounded": BOUNDED}


def _save_gpt2(folder: Path, settings: Settings) -> None:
    if (folder / "config.json").is_file():
        return
    tokenizer = AutoTokenizer.from_pretrained(settings.shared_data / "gpt2-tokenizer")
    tokenizer.eos_token = "<|endoftext|>"
    config = GPT2Config(n_layer=2, n_embd=96, n_head=4) if settings.quick else GPT2Config()
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _large(settings: Settings) -> Iterator[Figure]:
    """The third round of 20 clients, whole and with a bound, for a model of LLaMA-2-7B's shapes."""
    shapes = LLAMA_2_7B[:1] if settings.quick else LLAMA_2_7B
    generator = torch.Generator().manual_seed(settings.seeds[0])
    totals = {"whole": 0.0, "bounded": 0.0, "bounded, dense": 0.0}
    kept = {"bounded": 0, "bounded, dense": 0}
    for shape in shapes:
        count = shape.per_block * NUM_BLOCKS
        ways, sizes = _ways(shape, generator, small=settings.quick)
        for name, seconds in timed_in_turns(ways, dict.fromkeys(ways, 3)).items():
            yield Figure.of_repeats(f"{shape}: {name}", seconds, "s")
            totals[name] += count * median(seconds)
        for name in kept:
            kept[name] += count * sizes[name]
    for name, total in totals.items():
        yield Figure(name=f"a model's aggregation, {name}", value=total, unit="s")
    ratio = totals["bounded"] / totals["whole"]
    yield Figure(name="bounded / whole, same round", value=ratio, unit="ratio", target=AS_FAST)
    for name, size in kept.items():
        yield Figure(name=f"kept on the server, {name}", value=size / 1e9, unit="GB")


def _ways(
    shape: Shape, generator: torch.Generator, *, small: bool
) -> tuple[dict[str, Callable[[], object]], dict[str, int]]:
    """Round 3 of a weight: the whole adapter, a bounded one, and one whose sum is a matrix."""
    options, clients = Aggregation(), 4 if small else 20
    zero = LowRank.zeros(shape.out_features, shape.in_features)
    first, second, third = (make_contributions(shape, clients, RANKS, generator) for _ in range(3))
    whole = aggregate(aggregate(zero, first), second)
    total = UpdateSum(content=zero).plus(*change(zero, first)).plus(*change(zero, second))
    matrix = UpdateSum(content=total.dense())
    near = head_of({"": total}, options, near={})

    def cut(before: UpdateSum, given: list[Contribution]) -> UpdateSum:
        sums = {"": before.plus(*change(near[""], given))}
        return bounded(sums, options, near=near).sums[""]

    ways: dict[str, Callable[[], object]] = {
        "whole": partial(aggregate, whole, third),
        "bounded": partial(cut, total, third),
        "bounded, dense": partial(cut, matrix, third),
    }
    sizes = {
        "bounded": cut(total, third).num_bytes,
        "bounded, dense": cut(matrix, third).num_bytes,
    }
    return ways, sizes


def _at(curve: Curve, server_round: int) -> dict[str, Any]:
    line: dict[str, Any] = curve[server_round - 1]
    return line


def _of_each(curves: list[Curve], server_round: int, key: str) -> list[float]:
    return [_at(curve, server_round)[key] for curve in curves]


def _seconds(curve: Curve, first: int, last: int) -> float:
    return median(float(_at(curve, each)["seconds"]) for each in range(first, last + 1))


BENCHMARK = Benchmark(
    name="adapter-growth",
    summary="A global adapter of bounded size against one that grows: bytes, seconds, quality.",
    measure=measure,
    seeds=(0, 1, 2),
)
