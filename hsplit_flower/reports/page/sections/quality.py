"""How well the global model predicts: by round, and by the time that it took to get there."""

from collections.abc import Sequence

from ...run import Run
from ..line_chart import Series, line_chart
from ..numbers import NONE, measure_text, seconds_text
from ..section import Figure, Section, Table
from .headline import perplexities

EXPLAINED = (
    "Perplexity is how many words the model hesitates between at each place of the text, in the "
    "mean; lower is better, 1 is certainty."
)


def quality(runs: Sequence[Run]) -> Section:
    """Perplexity of one run, or of several over each other."""
    by_round = [Series(name=run.name, points=_by_round(run)) for run in runs]
    measured = [series for series in by_round if series.points]
    figures = []
    if measured:
        figures.append(_figure(measured, "Perplexity by round", "round", x_is_count=True))
    for title, x_title, simulated in (
        ("Perplexity by simulated time", "seconds on the simulated devices", True),
        ("Perplexity by measured time", "seconds of training, measured", False),
    ):
        timed = [Series(name=run.name, points=_by_time(run, simulated)) for run in runs]
        timed = [series for series in timed if len(series.points) > 1]
        if timed and (simulated or len(figures) == 1):
            figures.append(_figure(timed, title, x_title))
    return Section(
        anchor="quality",
        title="Quality",
        answer=f"{_answer(runs)} {EXPLAINED}",
        figures=tuple(figures),
        tables=tuple(_table(run, is_alone=len(runs) == 1) for run in runs if run.lines),
    )


def _answer(runs: Sequence[Run]) -> str:
    told = []
    for run in runs:
        before, after = perplexities(run)
        whose = "" if len(runs) == 1 else f" of {run.name}"
        if after is None:
            told.append(f"The perplexity{whose} after training was not measured by the server.")
        elif before is None:
            told.append(f"The perplexity{whose} was {measure_text(after)} after training.")
        else:
            told.append(
                f"The perplexity{whose} was {measure_text(before)} before training and "
                f"{measure_text(after)} after it."
            )
        best = _best(run)
        if best is not None and after is not None and best[1] < after:
            told.append(f"Its lowest was {measure_text(best[1])}, after round {best[0]}.")
    return " ".join(told)


def _best(run: Run) -> tuple[int, float] | None:
    measured = [(line.server_round, line.perplexity) for line in run.server_evaluations]
    return min(measured, key=lambda pair: pair[1]) if measured else None


def _figure(
    series: Sequence[Series], title: str, x_title: str, *, x_is_count: bool = False
) -> Figure:
    return Figure(
        title=title,
        svg=line_chart(
            series,
            x_title=x_title,
            y_title="perplexity",
            description=f"{title}: "
            + "; ".join(
                f"{each.name} from {measure_text(each.points[0][1])} to "
                f"{measure_text(each.points[-1][1])}"
                for each in series
            ),
            x_is_count=x_is_count,
            may_be_logarithmic=True,
        ),
        caption="Measured by the server on its own examples. Round 0 is before training.",
    )


def _by_round(run: Run) -> tuple[tuple[float, float], ...]:
    return tuple((line.server_round, line.perplexity) for line in run.server_evaluations)


def _by_time(run: Run, simulated: bool) -> tuple[tuple[float, float], ...]:
    """Perplexity at the time when its round was over."""
    passed, seconds = {0: 0.0}, 0.0
    for line in run.training:
        seconds += line.simulated_seconds if simulated else line.seconds
        passed[line.server_round] = seconds
    if not seconds:
        return ()
    measured = run.server_evaluations
    return tuple(
        (passed[line.server_round], line.perplexity)
        for line in measured
        if line.server_round in passed
    )


def _table(run: Run, *, is_alone: bool) -> Table:
    server = {line.server_round: line.perplexity for line in run.server_evaluations}
    clients = {line.server_round: line.perplexity for line in run.client_evaluations}
    training = {line.server_round: line for line in run.training}
    rows = []
    for number in sorted({*server, *clients, *training}):
        line = training.get(number)
        finished = sum(part.counts for part in line.clients.values()) if line else None
        rows.append(
            (
                str(number),
                measure_text(server.get(number)),
                measure_text(clients.get(number)),
                NONE if finished is None else str(finished),
                seconds_text(line.seconds if line else None),
                seconds_text((line.simulated_seconds or None) if line else None),
                "" if line is None else "yes" if line.completed else "no",
            )
        )
    return Table(
        title="Round by round" if is_alone else f"Round by round: {run.name}",
        header=(
            "round",
            "perplexity, server",
            "perplexity, clients",
            "clients that finished",
            "measured",
            "simulated",
            "counts",
        ),
        rows=tuple(rows),
        num_texts=0,
        is_folded=not is_alone or len(rows) > 12,
    )
