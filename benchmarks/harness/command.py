"""Runs one benchmark from the command line: a table on screen, a report on disk.

The exit status says whether it measured, never whether a target was reached.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import table
from benchmarks.harness.catalogue import PACKAGE, benchmark_names, load_benchmark
from benchmarks.harness.figures import Benchmark, Figure, Settings
from benchmarks.harness.machine import ROOT, commit, machine, versions

UNKNOWN: Final = 2


def main(argv: Sequence[str] | None = None, *, package: str = PACKAGE) -> int:
    """Run, or list, what the command line names; gives the exit status."""
    arguments = _parser().parse_args(argv)
    names = benchmark_names(package)
    if arguments.list:
        for name in names:
            print(f"{name:<23} {load_benchmark(name, package).summary}")
        return 0
    if arguments.name not in names:
        got = "no benchmark named" if arguments.name is None else f"no benchmark {arguments.name!r}"
        print(f"{got}; there are: {', '.join(names)}", file=sys.stderr)
        return UNKNOWN
    benchmark = load_benchmark(arguments.name, package)
    seeds = benchmark.seeds[:1] if arguments.quick else benchmark.seeds
    if arguments.seeds is not None:
        seeds = tuple(arguments.seeds)
    report = run(benchmark, quick=arguments.quick, seeds=seeds)
    if arguments.out is not None:
        write(report, arguments.out)
        print(f"\nreport: {arguments.out}")
    return 0


def run(benchmark: Benchmark, *, quick: bool, seeds: tuple[int, ...]) -> dict[str, Any]:
    """What the benchmark measured, as its report; prints the table while it runs."""
    print(f"{benchmark.name}: {benchmark.summary}", flush=True)
    if quick:
        print("A quick run: that it works is what it shows; targets are for full ones.", flush=True)
    print(f"\n{table.header()}", flush=True)
    started = datetime.now(timezone.utc)
    clock = time.perf_counter()
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix=f"{benchmark.name}-") as scratch:
        settings = Settings(
            quick=quick,
            seeds=seeds,
            scratch=Path(scratch),
            shared_data=ROOT.parent / "shared" / "data",
        )
        for item in benchmark.measure(settings):
            if isinstance(item, Figure):
                figures.append(item)
                print(table.row(item), flush=True)
            else:
                details[item.name] = item.value
    if not figures:
        raise RuntimeError(f"benchmark {benchmark.name!r} yielded no figure")
    return {
        "benchmark": benchmark.name,
        "quick": quick,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 3),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "seeds": list(seeds),
        "figures": [figure.as_json() for figure in figures],
        "details": details,
    }


def write(report: dict[str, Any], path: Path) -> None:
    """Put the report where it was asked for, whole or not at all."""
    text = json.dumps(report, indent=2, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    unfinished.write_text(f"{text}\n", encoding="utf-8")
    unfinished.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure one thing.")
    parser.add_argument("name", nargs="?", help="which benchmark to run")
    parser.add_argument("--list", action="store_true", help="name all benchmarks and stop")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where the report goes")
    parser.add_argument(
        "--quick", action="store_true", help="the smallest run that still measures, on one seed"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="instead of the benchmark's own random seeds"
    )
    return parser
