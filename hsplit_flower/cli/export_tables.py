"""What an export has made, as a table for people."""

import math
from collections.abc import Iterator

from ..sizes import size_text
from .console import console, numbers_table
from .export_report import Described, ExportReport, Written

_HEADER = ("", "ranks", "sum", "factors", "energy", "perplexity")
_LEGEND = (
    "ranks: lowest and highest of a weight, and their sum",
    "factors: their bytes in float32, each weight with its own rank",
    "energy: share of the squared norm of all that was learnt",
)
MOST_DECIMALS = 4


def print_export(report: ExportReport) -> None:
    """Print what the run sent, what it learnt and what is exported, and where that is."""
    out = console()
    rows = {
        "sent by the run": report.sent,
        "all that was learnt": report.learnt,
        "this export": report.exported,
    }
    header = _HEADER if report.measured else _HEADER[:-1]
    cells = ([title, *_cells(each)][: len(header)] for title, each in rows.items())
    out.print(numbers_table(header, cells))
    for line in (*_LEGEND, "", *_told(report)):
        out.print(f"  {line}" if line in _LEGEND else line)


def share_text(share: float) -> str:
    """A share in percent, with as many digits as tell it from all of it."""
    missing = 100 * (1 - share)
    if missing <= 0:
        return "100 %"
    decimals = max(1, 1 - math.floor(math.log10(missing)))
    if decimals > MOST_DECIMALS:
        return f"> {100 - 10**-MOST_DECIMALS:.{MOST_DECIMALS}f} %"
    return f"{100 * share:.{decimals}f} %"


def change_text(before: float, after: float) -> str:
    """A change of perplexity, in percent to two digits."""
    return f"{before:.4g} -> {after:.4g} ({100 * (after / before - 1):+.2g} %)"


def _cells(adapter: Described) -> list[str]:
    ranks = list(adapter.ranks.values())
    return [
        f"{min(ranks)}-{max(ranks)}",
        str(sum(ranks)),
        size_text(adapter.factors_bytes),
        share_text(adapter.energy_share),
        "-" if adapter.perplexity is None else f"{adapter.perplexity:.4f}",
    ]


def _told(report: ExportReport) -> Iterator[str]:
    measured, sent, own = report.measured, report.sent.perplexity, report.exported.perplexity
    if measured is not None and sent is not None and own is not None:
        yield (
            f"perplexity on {measured.num_examples} examples of {measured.dataset}: "
            f"{change_text(sent, own)}; the base alone {measured.base_perplexity:.4g}"
        )
    if report.adapter is not None:
        rank = max(report.exported.ranks.values())
        yield f"adapter: {_written(report.adapter)}, all weights with rank {rank}"
    if report.merged is not None:
        own = report.merged.perplexity
        rounded = "" if own is None else f", with perplexity {own:.4f} as it is rounded there"
        yield f"model: {_written(report.merged)}{rounded}"


def _written(written: Written) -> str:
    return f"{written.folder} ({size_text(written.num_bytes)}, {written.dtype})"
