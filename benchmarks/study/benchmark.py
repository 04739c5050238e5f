"""HSplitLoRA against every other method: quality by round, simulated seconds, bytes and memory.

A trial is `benchmarks.trial`'s: one whole model, no split, the method's own rules. Each is written
down as it ends in ``docs/study/trials.jsonl``, and a run goes on from there; whoever changes what
is trained removes the file first. Seconds and bytes are the cost model's, of LLaMA-2-7B and GPT-2-L
on the paper's fleet. ``python -m benchmarks.study.tables`` and ``.pictures`` read what is left.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.harness import Benchmark, Detail, Figure, Settings
from benchmarks.harness.machine import ROOT
from benchmarks.study.arms import ROWS, Size, plain
from benchmarks.study.curves import curve_of
from benchmarks.study.results import RESULTS, TRIALS, found, lines_of, write
from benchmarks.study.run import PARTS, Look, Study
from benchmarks.study.summary import Line, ratios
from benchmarks.trial import Trials

OURS = "hsplit-lora"
QUICK = Size(num_rounds=1, local_steps=1, batch_size=2, evaluation_examples=8)
QUICK_METHODS = (OURS, "split-lora", "centralised-lora")


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Run what is missing, and tell what came of it."""
    if settings.quick:
        values = found(quick_studies(settings), in_this_process(), costs={})
    else:
        values = found(all_studies(settings.seeds), Trials(TRIALS, curve_of).run)
        write(values, RESULTS)
    yield from figures(values)
    yield Detail(name="results", value=values)


def all_studies(seeds: tuple[int, ...]) -> list[Study]:
    """Both bases, all methods."""
    data = Path(os.path.relpath(ROOT.parent / "shared" / "data", Path.cwd()))
    if not (data / "e2e" / "trainset.csv").is_file():
        raise SystemExit(f"study needs the E2E data set in {data / 'e2e'}, which is not there")
    bases = {"llama-tiny": "llama-tiny", "gpt2-tiny": str(data / "base" / "gpt2-tiny")}
    return [
        Study(
            base=base,
            plain=plain(model=model, dataset=str(data / "e2e"), size=Size()),
            seeds=seeds,
        )
        for base, model in bases.items()
    ]


def quick_studies(settings: Settings) -> list[Study]:
    """One base, one method of each kind, on the built-in texts."""
    small = plain(model="llama-tiny", dataset="restaurants", size=QUICK)
    return [
        Study(
            base="llama-tiny",
            plain=small,
            seeds=settings.seeds,
            methods=QUICK_METHODS,
            parts=PARTS[:1],
        )
    ]


def in_this_process() -> Look:
    """Runs trials that are smaller than a process takes to start, each once."""
    curve = cache(curve_of)
    return lambda settings: {setting: curve(setting) for setting in settings}


def figures(values: dict[str, Any]) -> Iterator[Figure]:
    """Each method's perplexity after the last round, and over HSplitLoRA's."""
    for base, content in values["bases"].items():
        for world, fleets in content["cells"].items():
            for fleet, cells in fleets.items():
                yield from _figures(f"{base}, {world}, {fleet}", lines_of(cells))


def _figures(where: str, lines: dict[str, Line]) -> Iterator[Figure]:
    for name, line in lines.items():
        yield Figure.of_mean(f"{where}: {ROWS[name].title}", line.final, "perplexity")
    ours = lines.get(OURS)
    if ours is None:
        return
    own = dict(zip(ours.seeds, ours.final, strict=True))
    for name, line in lines.items():
        theirs = dict(zip(line.seeds, line.final, strict=True))
        if name != OURS and (several := ratios(theirs, own)):
            yield Figure.of_mean(f"{where}: {ROWS[name].title} / HSplitLoRA", several, "ratio")


BENCHMARK = Benchmark(
    name="study",
    summary="HSplitLoRA against all other methods: perplexity, simulated seconds, bytes, memory.",
    measure=measure,
    seeds=(0, 1, 2),
)
