"""Where tables are printed: as wide as the terminal, or as they need where there is none."""

import sys
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table

# Wider than any table of ours, so that what is piped is cut and wrapped nowhere.
WIDTH_OF_A_PIPE = 10_000


def console(width_of_a_pipe: int = WIDTH_OF_A_PIPE) -> Console:
    """Standard output, whose texts are printed as they are."""
    return Console(
        width=None if sys.stdout.isatty() else width_of_a_pipe,
        markup=False,
        highlight=False,
        emoji=False,
    )


def numbers_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Rows of cells, all of them right-aligned, under a header that may have several lines."""
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, expand=False
    )
    for title in header:
        table.add_column(title, justify="right", vertical="bottom", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
