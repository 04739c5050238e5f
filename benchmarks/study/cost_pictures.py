"""Pictures of what methods cost a client, of importance, and of links."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.study.arms import COMPONENTS, HETEROGENEOUS
from benchmarks.study.fleet import LINK_MBPS, MEMORY_GB, ROUND_TRIP_MS
from benchmarks.study.style import LOOKS, save, title_of

MEGABYTE = 1e6
GREYS = ("#333333", "#999999", "white")


def client_costs(results: Mapping[str, Any], folder: Path) -> None:
    """Memory of a client, and bytes that it sends and is sent in a round, by method and model."""
    models = results["costs"]
    methods = [name for name in LOOKS if name not in COMPONENTS]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
    for place, (model, hatch) in enumerate(zip(models, ("", "////"), strict=True)):
        capacities = models[model]["capacities"]
        at = [index + 0.38 * (place - 0.5) for index in range(len(methods))]
        style = {"height": 0.36, "color": GREYS[place + 1], "edgecolor": "black", "hatch": hatch}
        left.barh(at, [capacities[name]["memory_gb"] for name in methods], label=model, **style)
        sent = [capacities[name]["round_bytes"] / MEGABYTE for name in methods]
        right.barh(at, sent, label=model, **style)
    for gigabytes in (min(MEMORY_GB[HETEROGENEOUS]), max(MEMORY_GB[HETEROGENEOUS])):
        left.axvline(gigabytes, color="black", linestyle="--", linewidth=1)
        left.text(gigabytes, -0.75, f"{gigabytes:g} GB", ha="center", fontsize=8)
    left.set_yticks(range(len(methods)), labels=[title_of(name) for name in methods])
    left.invert_yaxis()
    for panel, what in ((left, "memory of a client, GB"), (right, "bytes of a client a round, MB")):
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel(what)
        panel.grid(visible=False, axis="y")
    right.legend(loc="lower right")
    figure.tight_layout()
    save(figure, folder, "client-costs")


def importance(results: Mapping[str, Any], folder: Path) -> None:
    """Each weight's share of all importance, by block and kind."""
    bases = {
        base: content["importance"][HETEROGENEOUS]
        for base, content in results["bases"].items()
        if HETEROGENEOUS in content.get("importance", {})
    }
    if not bases:
        return
    figure, axes = plt.subplots(1, len(bases), figsize=(1.2 + 3.9 * len(bases), 3.6), squeeze=False)
    for panel, (base, shares) in zip(axes[0], bases.items(), strict=True):
        _heat(panel, base, shares)
    figure.tight_layout()
    save(figure, folder, "importance")


def _heat(panel: Axes, base: str, shares: Mapping[str, float]) -> None:
    table: dict[str, dict[int, float]] = {}
    for name, share in shares.items():
        block, *kind = [part for part in name.split(".") if part not in ("model", "layers", "h")][
            -3:
        ]
        table.setdefault(kind[-1] if base == "llama-tiny" else ".".join(kind), {})[int(block)] = (
            100 * share
        )
    blocks = sorted(next(iter(table.values())))
    rows = [[by_block[block] for block in blocks] for by_block in table.values()]
    most = max(map(max, rows))
    panel.imshow(rows, cmap="Greys", vmin=0, vmax=most, aspect="auto")
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            color = "white" if value > 0.55 * most else "black"
            panel.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=7, color=color)
    panel.set_yticks(range(len(table)), labels=list(table))
    panel.set_xticks(range(len(blocks)), labels=[str(block) for block in blocks])
    panel.set_xlabel("block")
    panel.set_title(f"{base}: share of importance, per cent")
    panel.grid(visible=False)


def links(results: Mapping[str, Any], folder: Path) -> None:
    """Seconds of a round over bandwidth, latency and the number of clients."""
    models = results["costs"]
    figure, axes = plt.subplots(
        len(models), 3, figsize=(9, 0.7 + 2.8 * len(models)), sharey="row", squeeze=False
    )
    for row, (model, costs) in zip(axes, models.items(), strict=True):
        sweep = costs["sweep"]
        _lines(row[0], sweep, "mbps", {"round_trip_ms": ROUND_TRIP_MS, "clients": 5})
        _lines(row[1], sweep, "round_trip_ms", {"mbps": LINK_MBPS, "clients": 5})
        _lines(row[2], sweep, "clients", {"mbps": LINK_MBPS, "round_trip_ms": ROUND_TRIP_MS})
        row[0].set_ylabel(f"{model}\nseconds of a round of 100 steps")
        row[0].set_xscale("log")
        row[1].set_xscale("log")
        for panel in row[:2]:
            panel.xaxis.set_major_formatter("{x:g}")
        row[0].yaxis.set_major_formatter("{x:g}")
        row[2].set_xticks([5, 10, 20])
    for panel, what in zip(axes[-1], ("link, Mbit/s", "round trip, ms", "clients"), strict=True):
        panel.set_xlabel(what)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=4, handlelength=4)
    figure.tight_layout(rect=(0, 0.4 / figure.get_figheight(), 1, 1))
    save(figure, folder, "links")


def _lines(
    panel: Axes, sweep: Sequence[Mapping[str, Any]], along: str, fixed: Mapping[str, float]
) -> None:
    for method in dict.fromkeys(row["method"] for row in sweep):
        points = sorted(
            (row[along], row["seconds"])
            for row in sweep
            if row["method"] == method and all(row[key] == value for key, value in fixed.items())
        )
        x, y = zip(*points, strict=True)
        panel.plot(x, y, label=title_of(method), **LOOKS[method].plot())
    panel.set_yscale("log")
