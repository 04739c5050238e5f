"""How well the model predicts each site's own texts, and how that moved."""

from collections.abc import Callable, Sequence

from ...client_records import TrainedClient
from ...client_totals import ClientTotals, client_totals
from ...run import Run
from ..line_chart import MOST_NAMED, Point, Series, line_chart
from ..numbers import NONE, count_text, listed, measure_text
from ..section import Figure, Section, Table


def sites(run: Run) -> Section:
    """Each client's own evaluation where there was one, and its loss in training."""
    clients = client_totals(run)
    evaluated = _series(clients, _evaluations)
    trained = _series(clients, _losses)
    figures = []
    if evaluated:
        figures.append(_figure(evaluated, "Perplexity on each client's own examples", "perplexity"))
    if trained:
        figures.append(_figure(trained, "Loss in training, by client", "loss of a token"))
    return Section(
        anchor="sites",
        title="Quality by site",
        answer=_answer(evaluated, trained),
        figures=tuple(figures),
        tables=(_table(run, clients),) if clients else (),
    )


def _series(
    clients: Sequence[ClientTotals], points_of: Callable[[ClientTotals], tuple[Point, ...]]
) -> list[Series]:
    known = [Series(name=client.name, points=points_of(client)) for client in clients]
    return [series for series in known if series.points]


def _evaluations(client: ClientTotals) -> tuple[Point, ...]:
    return tuple(
        (number, part.perplexity)
        for number, part in sorted(client.evaluated.items())
        if part.perplexity is not None
    )


def _losses(client: ClientTotals) -> tuple[Point, ...]:
    return tuple(
        (number, part.loss)
        for number, part in sorted(client.trained.items())
        if part.loss is not None and part.counts
    )


def _figure(series: list[Series], title: str, y_title: str) -> Figure:
    return Figure(
        title=title,
        svg=line_chart(
            series,
            x_title="round",
            y_title=y_title,
            description=f"{title}, last: "
            + ", ".join(f"{each.name} {measure_text(each.points[-1][1])}" for each in series),
            x_is_count=True,
            may_be_logarithmic=True,
            y_text=_short,
        ),
        caption="Where there are many clients only the highest and the lowest have their names."
        if len(series) > MOST_NAMED
        else "",
    )


def _short(value: float) -> str:
    return measure_text(value, 3)


def _answer(evaluated: list[Series], trained: list[Series]) -> str:
    source, what = (evaluated, "perplexity") if evaluated else (trained, "training loss")
    if not source:
        return "No client finished a round, so nothing is known of any site."
    last = {each.name: each.points[-1][1] for each in source}
    first = {each.name: each.points[0][1] for each in source}
    worst, best = max(last, key=lambda name: last[name]), min(last, key=lambda name: last[name])
    worse = [name for name in last if last[name] > first[name]]
    told = (
        f"At the end {what} was lowest for {best} ({measure_text(last[best], 3)}) and highest for "
        f"{worst} ({measure_text(last[worst], 3)})."
    )
    if worse:
        told += f" It rose during the run for {listed(worse)}."
    if not evaluated:
        told += (
            " Clients did not evaluate the model on examples of their own, so this is the mean "
            "over the steps of a round, each before the model had learnt from it."
        )
    return told


def _table(run: Run, clients: Sequence[ClientTotals]) -> Table:
    rows = tuple(_row(client, len(run.training)) for client in clients)
    return Table(
        title=count_text(len(rows), "client"),
        header=(
            "client",
            "rounds",
            "examples",
            "steps",
            "tokens",
            "first loss",
            "last loss",
            "first perplexity",
            "last perplexity",
        ),
        rows=rows,
        is_folded=len(rows) > 20,
    )


def _row(client: ClientTotals, num_rounds: int) -> tuple[str, ...]:
    parts, evaluations = client.finished, client.evaluations
    return (
        client.name,
        f"{len(parts)} of {num_rounds}",
        f"{parts[-1].num_examples:,}" if parts else NONE,
        f"{sum(part.num_steps or 0 for part in parts):,}",
        f"{sum(part.num_tokens or 0 for part in parts):,}",
        measure_text(_before(parts), 3),
        measure_text(_after(parts), 3),
        measure_text(evaluations[0].perplexity if evaluations else None, 3),
        measure_text(evaluations[-1].perplexity if evaluations else None, 3),
    )


def _before(parts: Sequence[TrainedClient]) -> float | None:
    """Loss at the start of the first round, as near as it is known."""
    if not parts:
        return None
    return parts[0].loss if parts[0].loss_before is None else parts[0].loss_before


def _after(parts: Sequence[TrainedClient]) -> float | None:
    if not parts:
        return None
    return parts[-1].loss if parts[-1].loss_after is None else parts[-1].loss_after
