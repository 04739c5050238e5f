"""Ranks that pay: each choice of HSplitLoRA against its alternatives, at equal adapter bytes.

Every arm differs from the first in one choice, from one scale for all ranks where its name says so,
or from such a one in having uniform ranks. Arms whose choice changes how far a step goes have a
learning rate of their own, the best of a small grid on the first seed; the others have the first
arm's (`benchmarks.trial` says what a trial is). Each trial is written down as it ends in
``results/ablation.jsonl``, and a run that was stopped goes on from there; whoever changes what is
trained removes the file first.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.harness.machine import ROOT
from benchmarks.trial import Curve, Examples, Setting, Trials, examples_of, federated
from hsplit_flower.methods import HSPLIT_LORA, RankRule
from hsplit_flower.settings import Aggregation, Training
from hsplit_flower.types import Dividing, ScaleRule, Start

SEED, LEARNING_RATE = "training.seed", "training.learning_rate"
LEARNING_RATES = (2e-3, 4e-3, 8e-3, 16e-3)
# Adapter bytes of the five clients, 1 : 1.6 : 2.2 : 3 : 4, as ranks over all weights.
FLEETS = {"heterogeneous": (2.0, 3.2, 4.4, 6.0, 8.0), "homogeneous": (4.72,) * 5}
IMPORTANCE = "importance"
ALPHA, SCALE_RULE, START = "training.lora_alpha", "training.scale_rule", "training.start"
ONE_SCALE = {ALPHA: 8.0, SCALE_RULE: ScaleRule.CONSTANT}
# Adapters of any size, each client with a draw of its own: what is compared is nothing else.
METHOD = replace(HSPLIT_LORA, one_draw=False)
UNIFORM = {"method": replace(METHOD, ranks=RankRule.UNIFORM)}
# On both bases and fleets. All scales agree at rank 4.
MAIN_ARMS: Mapping[str, Mapping[str, Any]] = {
    IMPORTANCE: {},
    "uniform": UNIFORM,
    "one scale": ONE_SCALE,
    "one scale, uniform": {**ONE_SCALE, **UNIFORM},
}
# These decide which weights get the ranks, and through those alone how far a step goes.
FOLLOWERS: Mapping[str, Mapping[str, Any]] = {
    "importance, no rank 0": {"floor": True},
    "importance as means": {"means": True},
    "today's importance alone": {"history": False},
    "importance of ten steps": {"probe_steps": 10},
    "today's alone, of ten steps": {"history": False, "probe_steps": 10},
    "g = 1 - 0.5^r": {"planning.gain_base": 0.5},
    "g = 1 - 0.7^r": {"planning.gain_base": 0.7},
    "g = 1 - 0.8^r": {"planning.gain_base": 0.8},
    "g = 1 - 0.95^r": {"planning.gain_base": 0.95},
    "unit of two ranks": {"planning.rank_unit": 2},
}
HALF_SCALE = {ALPHA: 4.0, SCALE_RULE: ScaleRule.CONSTANT}
ROOT_SCALE = {ALPHA: 16.0, SCALE_RULE: ScaleRule.RSLORA}
# On the first base and unequal devices only.
OTHER_ARMS: Mapping[str, Mapping[str, Any]] = {
    "half of one scale": HALF_SCALE,
    "half of one scale, uniform": {**HALF_SCALE, **UNIFORM},
    "alpha / sqrt(r)": ROOT_SCALE,
    "alpha / sqrt(r), uniform": {**ROOT_SCALE, **UNIFORM},
    "one scale, restart": {**ONE_SCALE, START: Start.RESTART},
    "one scale, restart, uniform": {**ONE_SCALE, START: Start.RESTART, **UNIFORM},
    "one scale, divided by holders": {**ONE_SCALE, "aggregation.dividing": Dividing.HOLDERS},
    **FOLLOWERS,
}
BETTER = Target("<=", 0.97)
NO_WORSE = Target("<=", 1.01)


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Tune each arm, repeat it over the seeds, and compare with the first."""
    dataset = settings.shared_data / "e2e"
    if not (dataset / "trainset.csv").is_file():
        raise SystemExit(f"ablation needs the E2E data set in {dataset}, which is not there")
    second = settings.shared_data / "base" / "gpt2-tiny"
    plain = Setting(
        model="llama-tiny",
        dataset=str(dataset.resolve()),
        budgets=FLEETS["heterogeneous"],
        method=METHOD,
        aggregation=Aggregation(mean_rank=0),
        training=Training(
            learning_rate=LEARNING_RATES[1],
            batch_size=4 if settings.quick else 8,
            seed=settings.seeds[0],
        ),
        num_rounds=2 if settings.quick else 4,
        local_steps=2 if settings.quick else 10,
        evaluation_examples=32 if settings.quick else 500,
    )
    folder = settings.scratch if settings.quick else ROOT / "results"
    trials = Trials(folder / "ablation.jsonl", _curve)
    bases = {"llama-tiny": plain}
    if not settings.quick:
        bases["gpt2-tiny"] = replace(plain, model=str(second.resolve()))
    for label, base in bases.items():
        yield from _promise(trials, base, label, settings)
    if not settings.quick:
        yield from _choices(trials, plain, "llama-tiny", settings)


def _promise(
    trials: Trials, plain: Setting, label: str, settings: Settings
) -> Iterator[Figure | Detail]:
    """Importance against uniform ranks, and alpha / r against one scale, on both fleets."""
    rates = LEARNING_RATES[1:2] if settings.quick else LEARNING_RATES
    tuned = _tuned(trials, plain, MAIN_ARMS, rates)
    yield Detail(name=f"{label}, learning rates", value=tuned)
    for fleet, target in (("heterogeneous", BETTER), ("homogeneous", NO_WORSE)):
        there = replace(plain, budgets=FLEETS[fleet])
        wanted = _repeated(there, MAIN_ARMS, tuned, settings.seeds)
        done = trials.run(setting for several in wanted.values() for setting in several)
        for name, several in wanted.items():
            yield Figure.of_repeats(
                f"{label}, {fleet}: {name}",
                [done[setting][-1] for setting in several],
                "perplexity",
            )
        for ours, theirs, wished in (
            (IMPORTANCE, "uniform", target),
            ("one scale", "one scale, uniform", None),
            (IMPORTANCE, "one scale", None),
        ):
            name = f"{label}, {fleet}: {ours} / {theirs}"
            yield _ratio(name, done, wanted[ours], wanted[theirs], wished)


def _choices(
    trials: Trials, plain: Setting, label: str, settings: Settings
) -> Iterator[Figure | Detail]:
    """Every other choice, on unequal devices."""
    arms = {IMPORTANCE: MAIN_ARMS[IMPORTANCE], **OTHER_ARMS}
    tuned = _tuned(trials, plain, arms, LEARNING_RATES)
    yield Detail(name=f"{label}, learning rates of the choices", value=tuned)
    wanted = _repeated(plain, OTHER_ARMS, tuned, settings.seeds)
    done = trials.run(setting for several in wanted.values() for setting in several)
    for name, several in wanted.items():
        yield Figure.of_repeats(
            f"{label}, heterogeneous: {name}",
            [done[setting][-1] for setting in several],
            "perplexity",
        )
    for name in ("half of one scale", "alpha / sqrt(r)", "one scale, restart"):
        ratio = f"{label}, heterogeneous: {name} / {name}, uniform"
        yield _ratio(ratio, done, wanted[name], wanted[f"{name}, uniform"])


def _ratio(
    name: str,
    done: Mapping[Setting, Curve],
    ours: Iterable[Setting],
    theirs: Iterable[Setting],
    target: Target | None = None,
) -> Figure:
    """The mean over seeds of one arm's perplexity over another's."""
    ratios = [done[one][-1] / done[other][-1] for one, other in zip(ours, theirs, strict=True)]
    return Figure.of_mean(name, ratios, "ratio", target)


def _repeated(
    plain: Setting,
    arms: Mapping[str, Mapping[str, Any]],
    tuned: Mapping[str, Any],
    seeds: Iterable[int],
) -> dict[str, list[Setting]]:
    """Each arm at its best learning rate, once for every seed."""
    return {
        name: [
            plain.changed({SEED: seed, LEARNING_RATE: tuned[name]["best"], **changes})
            for seed in seeds
        ]
        for name, changes in arms.items()
    }


def _tuned(
    trials: Trials,
    plain: Setting,
    arms: Mapping[str, Mapping[str, Any]],
    rates: tuple[float, ...],
) -> dict[str, Any]:
    """Each arm's best learning rate, with the perplexities on the first seed that say so."""
    own = {name: changes for name, changes in arms.items() if name not in FOLLOWERS}
    grid = {
        (name, rate): plain.changed({LEARNING_RATE: rate, **changes})
        for name, changes in own.items()
        for rate in rates
    }
    done = trials.run(grid.values())
    tuned: dict[str, Any] = {}
    for name in own:
        by_rate = {rate: done[grid[name, rate]][-1] for rate in rates}
        best = min(by_rate, key=lambda rate: by_rate[rate])
        tuned[name] = {"best": best, **{f"{rate:g}": value for rate, value in by_rate.items()}}
    followers = {name: {"best": tuned[IMPORTANCE]["best"]} for name in arms if name in FOLLOWERS}
    return {**tuned, **followers}


def _curve(setting: Setting) -> list[float]:
    return federated(setting, _examples(**examples_of(setting)))


# Many settings train on the same examples; few are kept at a time.
_examples = lru_cache(maxsize=2)(Examples.load)


BENCHMARK = Benchmark(
    name="ablation",
    summary="What each choice of HSplitLoRA does to perplexity, at equal adapter bytes.",
    measure=measure,
    seeds=(0, 1, 2),
)
