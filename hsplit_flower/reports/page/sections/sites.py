"""How well the model predicts each site's own texts, and how that moved."""

from ...client_records import TrainedClient
from ...run import Run
from ..line_chart import Series, line_chart
from ..numbers import NONE, count_text, measure_text
from ..section import Figure, Section, Table


def sites(run: Run) -> Section:
    """Each client's own evaluation where there was one, and its loss in training."""
    evaluated, trained = _evaluations(run), _losses(run)
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
        tables=(_table(run, evaluated),) if run.names else (),
    )


def _evaluations(run: Run) -> list[Series]:
    by_name: dict[str, list[tuple[float, float]]] = {}
    for line in run.client_evaluations:
        for name, part in line.clients.items():
            if part.perplexity is not None and part.dropped is None:
                by_name.setdefault(name, []).append((line.server_round, part.perplexity))
    return [Series(name=name, points=tuple(by_name[name])) for name in run.names if name in by_name]


def _losses(run: Run) -> list[Series]:
    by_name: dict[str, list[tuple[float, float]]] = {}
    for line in run.training:
        for name, part in line.clients.items():
            if part.loss is not None and part.counts:
                by_name.setdefault(name, []).append((line.server_round, part.loss))
    return [Series(name=name, points=tuple(by_name[name])) for name in run.names if name in by_name]


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
        if len(series) > 8
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
        told += f" It rose during the run for {', '.join(worse)}."
    if not evaluated:
        told += (
            " Clients did not evaluate the model on examples of their own, so this is the mean "
            "over the steps of a round, each before the model had learnt from it."
        )
    return told


def _table(run: Run, evaluated: list[Series]) -> Table:
    measured = {each.name: each.points for each in evaluated}
    rows = []
    for name in run.names:
        parts = _finished(run, name)
        points = measured.get(name, ())
        rows.append(
            (
                name,
                f"{len(parts)} of {len(run.training)}",
                f"{parts[-1].num_examples:,}" if parts else NONE,
                f"{sum(part.num_steps for part in parts):,}",
                f"{sum(part.num_tokens for part in parts) or 0:,}",
                measure_text(_before(parts), 3),
                measure_text(_after(parts), 3),
                measure_text(points[0][1], 3) if points else NONE,
                measure_text(points[-1][1], 3) if points else NONE,
            )
        )
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
        rows=tuple(rows),
        is_folded=len(rows) > 20,
    )


def _finished(run: Run, name: str) -> list[TrainedClient]:
    parts = [line.clients[name] for line in run.training if name in line.clients]
    return [part for part in parts if part.counts]


def _before(parts: list[TrainedClient]) -> float | None:
    """Loss at the start of the first round, as near as it is known."""
    if not parts:
        return None
    return parts[0].loss if parts[0].loss_before is None else parts[0].loss_before


def _after(parts: list[TrainedClient]) -> float | None:
    if not parts:
        return None
    return parts[-1].loss if parts[-1].loss_after is None else parts[-1].loss_after
