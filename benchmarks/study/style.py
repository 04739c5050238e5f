"""How pictures look: told apart in black and white, small as files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks.study.arms import ROWS

DPI: Final = 96


@dataclass(frozen=True, kw_only=True)
class Look:
    """A method's line and bar."""

    color: str
    line: Any
    marker: str
    hatch: str
    width: float = 1.3

    def plot(self) -> dict[str, Any]:
        """Options of a line."""
        return {
            "color": self.color,
            "linestyle": self.line,
            "marker": self.marker,
            "linewidth": self.width,
            "markersize": 5,
            "markerfacecolor": "white",
        }


DOTS, DASHES = (0, (1, 1.5)), (0, (5, 2))
LONG, MIXED = (0, (8, 2)), (0, (5, 1.5, 1, 1.5))
LOOKS: Final[Mapping[str, Look]] = {
    "hsplit-lora": Look(color="black", line="-", marker="o", hatch="", width=2.4),
    "split-lora": Look(color="#0072b2", line=DASHES, marker="s", hatch="//"),
    "full-tuning": Look(color="#d55e00", line=MIXED, marker="D", hatch="xx"),
    "centralised-lora": Look(color="#666666", line=DOTS, marker="*", hatch=".."),
    "fed-lora": Look(color="#009e73", line=LONG, marker="^", hatch="\\\\"),
    "het-lora": Look(color="#cc79a7", line=DASHES, marker="v", hatch="--"),
    "flora": Look(color="#56b4e9", line=DOTS, marker="P", hatch="||"),
    "flex-lora": Look(color="#e69f00", line=MIXED, marker="X", hatch="++"),
    "hsplit-lora-uniform": Look(color="#444444", line=DASHES, marker="<", hatch="oo"),
    "hsplit-lora-one-cut": Look(color="#888888", line=LONG, marker=">", hatch="OO"),
    "hsplit-lora-padded": Look(color="#aaaaaa", line=MIXED, marker="h", hatch="**"),
}


def title_of(method: str) -> str:
    """What a method is called."""
    return ROWS[method].title


def prepare() -> None:
    """One look for all; identifiers of an SVG do not depend on when it was drawn."""
    plt.rcParams.update(
        {
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "hatch.linewidth": 0.6,
            "svg.hashsalt": "hsplit-flower",
            "svg.fonttype": "none",
        }
    )


def save(figure: Figure, folder: Path, name: str) -> None:
    """As PNG and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
