"""``hsplit report``: a page about one run, or several over each other, for a browser."""

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="Folders that runs have left, or are filling."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="File that is written.",
        show_default="report.html in RUN, or here where there are several",
    ),
]


def command(runs: Runs, out: Out = None) -> None:
    """Make a page about a run: quality, cuts, importance, memory, time, bytes, who was left out.

    It is one HTML file with pictures and tables, which loads nothing: open it in a browser, send
    it, or print it. Several runs are shown over each other.
    """
    # This brings the library, for which neither help nor a mistyped option need wait.
    from ..reports.page import write_report
    from ..sizes import size_text

    written = write_report(runs, out)
    print(f"{written.resolve()} ({size_text(written.stat().st_size)})")
