"""Draws the study's pictures from the committed results: ``python -m benchmarks.study.pictures``.

A folder may follow in the place of ``docs/study``.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmarks.study.arms import HETEROGENEOUS, HOMOGENEOUS, ROOM
from benchmarks.study.cost_pictures import client_costs, importance, links
from benchmarks.study.fleet import STANDS_FOR
from benchmarks.study.results import FOLDER, lines_of, read
from benchmarks.study.style import LOOKS, prepare, save, title_of
from benchmarks.study.summary import Line

FLEETS = (HETEROGENEOUS, HOMOGENEOUS)
NAMES_A_ROW = 4


def main(arguments: list[str]) -> int:
    """Draw all of them."""
    folder = Path(arguments[0]) if arguments else FOLDER
    prepare()
    results = read()
    curves(results, folder, "perplexity-by-round", by_seconds=False)
    curves(results, folder, "perplexity-by-seconds", by_seconds=True)
    client_costs(results, folder)
    importance(results, folder)
    links(results, folder)
    return 0


def curves(results: Mapping[str, Any], folder: Path, name: str, *, by_seconds: bool) -> None:
    """A panel for each base and fleet; a line is the mean of the seeds, its band their range."""
    cells = {
        (base, fleet): lines_of(content["cells"][ROOM][fleet])
        for base, content in results["bases"].items()
        for fleet in FLEETS
    }
    bases = [base for base in results["bases"] if any(cells[base, fleet] for fleet in FLEETS)]
    figure, axes = plt.subplots(
        len(bases),
        2,
        figsize=(9, 0.8 + 3.3 * len(bases)),
        sharex="row",
        sharey="row",
        squeeze=False,
    )
    for row, base in enumerate(bases):
        for panel, fleet in zip(axes[row], FLEETS, strict=True):
            for method, line in cells[base, fleet].items():
                _draw(panel, method, line, by_seconds=by_seconds)
            panel.set_title(f"{base}, {fleet} devices")
            _scales(panel, base, by_seconds=by_seconds)
        axes[row][0].set_ylabel("dev perplexity")
    drawn = {name: None for lines in cells.values() for name in lines}
    handles = [Line2D([], [], label=title_of(method), **LOOKS[method].plot()) for method in drawn]
    figure.legend(handles=handles, loc="lower center", ncol=NAMES_A_ROW, handlelength=4)
    # A row of names takes 0.2 inches.
    bottom = (0.15 + 0.2 * -(-len(handles) // NAMES_A_ROW)) / figure.get_figheight()
    figure.tight_layout(rect=(0, bottom, 1, 1))
    save(figure, folder, name)


def _draw(panel: Axes, method: str, line: Line, *, by_seconds: bool) -> None:
    by_round = list(zip(*line.perplexity, strict=True))
    mean = [fmean(several) for several in by_round]
    if by_seconds:
        # The first point is at no time, where a scale of logarithms has no place.
        along = [fmean(several) for several in zip(*line.seconds, strict=True)][1:]
        mean, by_round = mean[1:], by_round[1:]
    else:
        along = list(range(len(mean)))
    look = LOOKS[method]
    panel.plot(along, mean, **look.plot(), zorder=3 if method == "hsplit-lora" else 2)
    low, high = [min(several) for several in by_round], [max(several) for several in by_round]
    panel.fill_between(along, low, high, color=look.color, alpha=0.12, linewidth=0)


def _scales(panel: Axes, base: str, *, by_seconds: bool) -> None:
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    panel.set_yticks(
        [5, 7, 10, 15, 20, 30, 50, 70], labels=["5", "7", "10", "15", "20", "30", "50", "70"]
    )
    panel.set_ylim(low, high)
    panel.minorticks_off()
    if by_seconds:
        panel.set_xscale("log")
        panel.set_xlabel(f"simulated seconds, {STANDS_FOR[base]}")
        panel.xaxis.set_major_formatter("{x:g}")
    else:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_xlabel("round")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
