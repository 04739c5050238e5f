"""Prints the study's tables from the committed results: ``python -m benchmarks.study.tables``.

With ``--refresh`` the results are first made anew from the trials that are kept, without any
training; what was not run is marked so.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.study.arms import CENTRALISED, HETEROGENEOUS, HOMOGENEOUS, ROOM, ROWS
from benchmarks.study.benchmark import all_studies
from benchmarks.study.claims import OURS, findings
from benchmarks.study.curves import curve_of
from benchmarks.study.fleet import MEMORY_GB, STANDS_FOR, Link
from benchmarks.study.link_sweep import MBPS, NUM_CLIENTS, ROUND_TRIPS_MS
from benchmarks.study.results import (
    NO_CLIENTS,
    NOT_RUN,
    RESULTS,
    TRIALS,
    found,
    lines_of,
    read,
    write,
)
from benchmarks.study.scores import kept_scores
from benchmarks.study.summary import Line, ratios, rounds_to, seconds_to
from benchmarks.trial import Trials

SEEDS = (0, 1, 2)


def main(arguments: Sequence[str]) -> int:
    """Print all tables."""
    if "--refresh" in arguments:
        write(found(all_studies(SEEDS), Trials(TRIALS, curve_of).kept), RESULTS)
    results = read()
    for base, content in results["bases"].items():
        print(f"\n## {base}, in the place of {STANDS_FOR[base]}\n")
        print("\n".join(claims(base, content)))
        for world, fleets in content["cells"].items():
            for fleet, cells in fleets.items():
                print(f"\n### {base}, {world}, {fleet}\n")
                print("\n".join(methods(cells)))
        print("\n### learning rates\n")
        print("\n".join(rates(content["learning_rates"])))
    print("\n### scores of texts\n")
    print("\n".join(scores(kept_scores())))
    for model, costs in results["costs"].items():
        print(f"\n## {model}\n")
        print("\n".join(capacities(costs["capacities"])))
        print()
        print("\n".join(activations(costs["activations"])))
    print()
    print("\n".join(sweep(results["costs"])))
    return 0


def claims(base: str, content: Mapping[str, Any]) -> Iterator[str]:
    """Each claim: published, found, verdict, and of how many seeds."""
    lines = {fleet: lines_of(cells) for fleet, cells in content["cells"][ROOM].items()}
    yield from _head("claim", "published", "found", "verdict", "seeds")
    for one in findings(STANDS_FOR[base], lines):
        yield _row(one.claim, one.published, spread(one.values), one.verdict, str(len(one.values)))


def methods(cells: Mapping[str, Any]) -> Iterator[str]:
    """Each method's last perplexity, and what it takes to the one that all reach."""
    lines = lines_of(cells)
    yield from _head(
        "method",
        "perplexity",
        "over HSplitLoRA's",
        "rounds to what all reach",
        "simulated seconds to it",
        "MB of a client to the end",
        "seeds",
    )
    for name, cell in cells.items():
        if isinstance(cell, str):
            yield _row(ROWS[name].title, cell, *[""] * 5)
            continue
        yield _row(ROWS[name].title, *_cells(name, lines))


def _cells(name: str, lines: Mapping[str, Line]) -> Iterator[str]:
    line, ours = lines[name], lines.get(OURS)
    yield spread(line.final)
    if ours is None:
        yield ""
    else:
        pairs = (dict(zip(one.seeds, one.final, strict=True)) for one in (line, ours))
        yield spread(ratios(*pairs))
    yield spread(list(rounds_to(line, lines).values()))
    yield spread(list(seconds_to(line, lines).values()))
    yield _number(fmean(several[-1] for several in line.client_bytes) / 1e6)
    yield str(len(line.seeds))


def scores(by_method: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """BLEU and the others of what each method's last model writes."""
    yield from _head(
        "method", "BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr", "dev perplexity", "empty texts"
    )
    for name, row in ROWS.items():
        if name not in by_method:
            yield _row(row.title, NOT_RUN, *[""] * 6)
            continue
        one = by_method[name]
        numbers = (f"{one[key]:.4f}" for key in ("bleu", "nist", "meteor", "rouge_l", "cider"))
        yield _row(row.title, *numbers, f"{one['dev_perplexity']:.3g}", str(one["empty"]))


def rates(tried: Mapping[str, Mapping[str, float | None]]) -> Iterator[str]:
    """Perplexity of the first seed at each rate that was tried, the best in bold."""
    names = sorted({rate for losses in tried.values() for rate in losses}, key=float)
    yield from _head("method", *names)
    for method, losses in tried.items():
        known = {rate: loss for rate, loss in losses.items() if loss is not None}
        best = min(known, key=lambda rate: known[rate], default="")
        yield _row(ROWS[method].title, *(_rate(losses, rate, best) for rate in names))


def _rate(losses: Mapping[str, float | None], rate: str, best: str) -> str:
    if rate not in losses:
        return ""
    loss = losses[rate]
    if loss is None:
        return "diverged"
    return f"**{loss:.3g}**" if rate == best else f"{loss:.3g}"


def capacities(by_method: Mapping[str, Any]) -> Iterator[str]:
    """Memory, parameters, bytes of a client, and who can take part."""
    yield from _head(
        "method",
        "memory, GB",
        "trained at rank 4, millions",
        "MB a round of 100 steps",
        "seconds of it",
        *(f"{fleet}: {_sizes(fleet)}" for fleet in MEMORY_GB),
    )
    for name, one in by_method.items():
        trained = one["numbers_per_rank"] * (4 if ROWS[name].has_adapters else 1)
        yield _row(
            ROWS[name].title,
            f"{one['memory_gb']:.3g}",
            _number(trained / 1e6),
            _number(one["round_bytes"] / 1e6),
            _number(one["round_seconds"]),
            *(
                _who(one["takes_part"][fleet]) if ROWS[name] != CENTRALISED else NO_CLIENTS
                for fleet in (HETEROGENEOUS, HOMOGENEOUS)
            ),
        )


def _who(parts: Mapping[str, Mapping[str, float]]) -> str:
    if not parts:
        return "nobody"
    ranks = sorted({part["rank"] for part in parts.values()})
    names = "all" if len(parts) == 5 else ", ".join(name.partition(": ")[2] for name in parts)
    return (
        f"{names}; rank {' to '.join(f'{rank:g}' for rank in dict.fromkeys((ranks[0], ranks[-1])))}"
    )


def _sizes(fleet: str) -> str:
    return ", ".join(f"{size:g}" for size in dict.fromkeys(MEMORY_GB[fleet])) + " GB"


def activations(by_type: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """What a step sends across the cut."""
    yield from _head("on the wire", "up, MB a step", "down, MB a step", "s at 100 Mbit/s")
    for name, one in by_type.items():
        up, down = (f"{one[key] / 1e6:.3g}" for key in ("up_bytes", "down_bytes"))
        yield _row(name, up, down, f"{one['seconds']:.3g}")


def sweep(by_model: Mapping[str, Any]) -> Iterator[str]:
    """Seconds of a round over links and clients, by model and method."""
    asked = [
        *dict.fromkeys(
            (model, row["method"]) for model in by_model for row in by_model[model]["sweep"]
        )
    ]
    yield from _head("", *(f"{model}, {ROWS[name].title}" for model, name in asked))
    usual = Link()
    wanted = [
        *((5, mbps, usual.round_trip_ms, f"{mbps:g} Mbit/s") for mbps in MBPS),
        *((5, usual.mbps, ms, f"{ms:g} ms") for ms in ROUND_TRIPS_MS),
        *((count, usual.mbps, usual.round_trip_ms, f"{count} clients") for count in NUM_CLIENTS),
    ]
    for clients, mbps, ms, label in wanted:
        seconds = {
            (model, row["method"]): row["seconds"]
            for model in by_model
            for row in by_model[model]["sweep"]
            if (row["clients"], row["mbps"], row["round_trip_ms"]) == (clients, mbps, ms)
        }
        yield _row(label, *(_number(seconds[key]) for key in asked))


def spread(values: Sequence[float]) -> str:
    """Mean with the smallest and the largest."""
    if not values:
        return ""
    mean, low, high = (_number(one) for one in (fmean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield "|" + "---|" * len(names)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
