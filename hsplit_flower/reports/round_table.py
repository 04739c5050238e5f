"""A round's clients as a table of few lines."""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ..sizes import digits_text
from .client_records import TrainedClient
from .metrics import TrainingLine

MOST_ROWS = 5
"""Of clients; of more the slowest and the fastest are shown, and the others in one row."""
HEADER = ("client", "cut", "ranks", "loss", "seconds", "sent MB", "got MB", "memory MB")
# Wider than any table of ours: nothing is wrapped.
WIDTH = 10_000


def table_lines(line: TrainingLine, *, is_terminal: bool = False) -> list[str]:
    """Who finished: cut, ranks, loss, seconds, bytes through worker and Flower, memory.

    The slowest come first. Memory is what was measured, of what the client might take.

    Parameters
    ----------
    line
        Of the round.
    is_terminal
        Whether the header may be bold.
    """
    done = sorted(
        ((name, client) for name, client in line.clients.items() if client.counts),
        key=lambda each: (-(each[1].seconds or 0.0), each[0]),
    )
    if not done:
        return []
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for number, title in enumerate(HEADER):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    for row in _rows(done):
        table.add_row(*row)
    written = io.StringIO()
    console = Console(
        file=written,
        width=WIDTH,
        force_terminal=is_terminal,
        color_system="standard" if is_terminal else None,
        markup=False,
        highlight=False,
        emoji=False,
    )
    console.print(table)
    return [text.rstrip() for text in written.getvalue().splitlines()]


def _rows(done: Sequence[tuple[str, TrainedClient]]) -> list[tuple[str, ...]]:
    """A row for each client, or, of many, for some and one for the others."""
    if len(done) <= MOST_ROWS:
        return [_row(name, [client]) for name, client in done]
    half = (MOST_ROWS - 1) // 2
    middle = [client for _, client in done[half:-half]]
    rows = [_row(name, [client]) for name, client in (*done[:half], *done[-half:])]
    return [*rows[:half], _row(f"… {len(middle)} more", middle), *rows[half:]]


def _row(title: str, clients: Sequence[TrainedClient]) -> tuple[str, ...]:
    """What one client has, or several have from the least to the most."""
    ranks = [rank for each in clients for rank in (each.least_rank, each.largest_rank)]
    memory = _range(each.peak_bytes for each in clients)
    if len(clients) == 1 and clients[0].peak_bytes and clients[0].budget_bytes:
        memory += f" of {_megabytes(clients[0].budget_bytes)}"
    return (
        title,
        _ends(str, [each.cut for each in clients]),
        _ends(str, ranks),
        _ends("{:.3f}".format, [each.loss for each in clients if each.loss is not None]),
        _ends(digits_text, [each.seconds or 0.0 for each in clients]),
        _range((each.worker_up_bytes or 0) + (each.flower_up_bytes or 0) for each in clients),
        _range((each.worker_down_bytes or 0) + each.flower_down_bytes for each in clients),
        memory,
    )


def _range(numbers_bytes: Iterable[float]) -> str:
    return _ends(_megabytes, list(numbers_bytes))


def _ends(text: Callable[[Any], str], values: Sequence[float]) -> str:
    """The least and the most, once where they read alike; a dash for no value."""
    if not values:
        return "-"
    return "-".join(dict.fromkeys(text(end(values)) for end in (min, max)))


def _megabytes(number_bytes: float) -> str:
    """In millions; a dash for none, as nothing was measured then."""
    return digits_text(number_bytes / 1e6) if number_bytes else "-"
