"""Where the seconds go: in a client's own half, at the worker, on the link, in waiting."""

from collections.abc import Callable, Sequence

from ...client_records import TrainedClient
from ...client_totals import client_totals
from ...run import Run
from ..bar_chart import MOST_ROWS, Bar, stacked_bars
from ..line_chart import Series, line_chart
from ..numbers import seconds_text, share_text
from ..section import Figure, Section, Table

MEASURED = ("own computing", "worker", "link", "others", "preparing")
SIMULATED = ("own computing", "worker", "link", "waiting")


def seconds(run: Run) -> Section:
    """The mean round of each client by what it went into, measured and simulated."""
    measured = _bars(run, _measured_parts)
    simulated = _bars(run, _simulated_parts)
    figures, tables = [], []
    for bars, names, title, caption in (
        (
            measured,
            MEASURED,
            "A round of each client, as measured",
            "The mean of its rounds. Others: until the round's last reply. Preparing: before the "
            "first step.",
        ),
        (
            simulated,
            SIMULATED,
            "A round of each client, on the simulated devices",
            "The mean of its rounds, as reckoned for the devices that were simulated. Waiting: in "
            "the worker's queue, and for the last one.",
        ),
    ):
        if bars:
            figures.append(_figure(bars, names, title, caption))
            tables.append(_table(bars, names, title))
    if len(run.training) > 1:
        figures.append(_rounds(run))
    return Section(
        anchor="seconds",
        title="Time",
        answer=_answer(run, measured, simulated),
        figures=tuple(figures),
        tables=tuple(tables),
    )


def _measured_parts(part: TrainedClient) -> tuple[float, ...] | None:
    parts = (
        part.computing_seconds,
        part.worker_seconds,
        part.link_seconds,
        part.others_seconds,
        part.setup_seconds,
    )
    return tuple(each or 0.0 for each in parts) if any(parts) else None


def _simulated_parts(part: TrainedClient) -> tuple[float, ...] | None:
    if part.simulated_compute_seconds is None:
        return None
    return (
        part.simulated_compute_seconds,
        part.simulated_worker_seconds or 0.0,
        part.simulated_link_seconds or 0.0,
        part.simulated_waiting_seconds or 0.0,
    )


def _bars(run: Run, parts_of: Callable[[TrainedClient], tuple[float, ...] | None]) -> list[Bar]:
    bars = []
    for client in client_totals(run):
        known = [parts for part in client.finished if (parts := parts_of(part))]
        if known:
            means = tuple(sum(column) / len(known) for column in zip(*known, strict=True))
            bars.append(Bar(name=client.name, parts=means, end=seconds_text(sum(means))))
    return bars


def _answer(run: Run, measured: Sequence[Bar], simulated: Sequence[Bar]) -> str:
    told = []
    lasting = [line.seconds for line in run.training if line.seconds]
    if lasting:
        mean = sum(lasting) / len(lasting)
        told.append(
            f"A round took {seconds_text(mean)} in the mean, {seconds_text(min(lasting))} to "
            f"{seconds_text(max(lasting))}."
        )
    for bars, names, where in (
        (measured, MEASURED, "As measured"),
        (simulated, SIMULATED, "On the simulated devices"),
    ):
        sums = [sum(bar.parts[kind] for bar in bars) for kind in range(len(names))]
        if sum(sums):
            most = max(range(len(names)), key=lambda kind: sums[kind])
            share = share_text(sums[most] / sum(sums))
            told.append(f"{where} most of the clients' time went into: {names[most]} ({share}).")
    return " ".join(told) or "No time was measured."


def _figure(bars: Sequence[Bar], names: Sequence[str], title: str, caption: str) -> Figure:
    many = f" The {MOST_ROWS} longest of {len(bars)} are shown." if len(bars) > MOST_ROWS else ""
    return Figure(
        title=title,
        svg=stacked_bars(
            bars,
            names,
            part_text=seconds_text,
            description=f"{title}: "
            + ", ".join(f"{bar.name} {bar.end}" for bar in bars[:MOST_ROWS]),
        ),
        caption=caption + many,
    )


def _table(bars: Sequence[Bar], names: Sequence[str], title: str) -> Table:
    rows = tuple((bar.name, *map(seconds_text, bar.parts), bar.end) for bar in bars)
    return Table(
        title=title,
        header=("client", *names, "together"),
        rows=rows,
        is_folded=len(rows) > 20,
    )


def _rounds(run: Run) -> Figure:
    points = tuple((float(line.server_round), line.seconds) for line in run.training)
    return Figure(
        title="How long each round took",
        svg=line_chart(
            [Series(name=run.name, points=points)],
            x_title="round",
            y_title="seconds, measured",
            description="Seconds of each round; the table of rounds has them",
            y_text=lambda value: f"{value:.3g}",
            x_is_count=True,
            from_zero=True,
        ),
        caption="From who is asked to the new global adapter; without evaluation.",
    )
