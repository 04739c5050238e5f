"""Who had which cut and ranks in which rounds, why, and when that was decided anew."""

from collections.abc import Mapping, Sequence

from ....names import in_order
from ...metrics import TrainingLine
from ...plan import PlannedClient
from ...run import Run
from ..bar_chart import MOST_ROWS
from ..heat_map import Cell, heat_map
from ..numbers import NONE, count_text, listed, seconds_text
from ..section import Figure, Section, Table
from .blocks import place_of

Parts = dict[str, tuple[int, int]]
"""Cut and sum of ranks, by client."""


def placement(run: Run) -> Section:
    """Cuts and ranks over the rounds, the last plan block by block, and the reasons."""
    spans = spans_of(run.training)
    figures = []
    if spans:
        figures += [
            _timeline(spans, 0, "Blocks on each client", "the number of blocks before the cut"),
            _timeline(spans, 1, "Ranks of each client", "the sum of ranks over all weights"),
        ]
    if run.plan is not None and run.plan.clients:
        figures.append(_map(run.plan.clients))
    tables = [_reasons(run.training)] if run.training else []
    if run.plan is not None and run.plan.clients:
        tables.insert(0, _whys(run))
    return Section(
        anchor="plan",
        title="Cuts and ranks",
        answer=_answer(run),
        figures=tuple(figures),
        tables=tuple(tables),
    )


def spans_of(lines: Sequence[TrainingLine]) -> list[tuple[str, Parts]]:
    """Rounds in which everybody had the same, as ``3`` or ``4-7``, and what that was."""
    spans: list[tuple[int, int, Parts]] = []
    for line in lines:
        parts = {name: (part.cut, part.sum_of_ranks) for name, part in line.clients.items()}
        if spans and spans[-1][2] == parts:
            spans[-1] = (spans[-1][0], line.server_round, parts)
        else:
            spans.append((line.server_round, line.server_round, parts))
    return [
        (str(first) if first == last else f"{first}–{last}", parts) for first, last, parts in spans
    ]


def _answer(run: Run) -> str:
    made = [line.server_round for line in run.training if line.replanned]
    if not made:
        return "Nothing was planned."
    told = (
        "Each client has the first blocks of the model, up to its cut, and the worker the rest; "
        "the rank of a weight is how much of it is trained. "
    )
    if len(made) == 1:
        return f"{told}They were chosen once, in round {made[0]}, and stood to the end."
    anew = f"round{'s' if len(made) > 2 else ''} {listed([str(number) for number in made[1:]], 12)}"
    return f"{told}They were chosen in round {made[0]}, and anew in {anew}."


def _timeline(spans: Sequence[tuple[str, Parts]], part: int, title: str, what: str) -> Figure:
    named = {name for _, parts in spans for name in parts}
    alike = together({name: [parts.get(name) for _, parts in spans] for name in named})
    shown, names = list(alike), list(alike.values())

    def cell(row: int, column: int) -> Cell:
        rounds, parts = spans[column]
        if shown[row] not in parts:
            return Cell(value=None, text=NONE, tip=f"{names[row]} had no part in round {rounds}")
        value = parts[shown[row]][part]
        return Cell(value=value, text=str(value), tip=f"{names[row]}, round {rounds}: {value}")

    return Figure(
        title=title,
        svg=heat_map(
            names,
            [rounds for rounds, _ in spans],
            cell,
            corner="round",
            description=f"{title} by round; the table below has the last plan",
            cell_height=22,
        ),
        caption=f"In each cell {what}. Rounds without a change share a column, and many clients "
        f"with the same a row; {NONE} is no part.",
    )


def _map(clients: dict[str, PlannedClient]) -> Figure:
    ranks = {name: _mean_ranks(part) for name, part in clients.items()}
    alike = together({name: (part.cut, ranks[name]) for name, part in clients.items()})
    shown = list(alike)
    num_blocks = 1 + max((block for own in ranks.values() for block in own), default=0)

    def cell(row: int, column: int) -> Cell:
        name = shown[column]
        mean = ranks[name].get(row, 0.0)
        is_workers = row >= clients[name].cut
        where = "the worker" if is_workers else name
        return Cell(
            value=mean,
            text=f"{mean:.3g}",
            tip=f"block {row} of {name}, on {where}: rank {mean:.3g} in the mean",
            is_hatched=is_workers,
        )

    return Figure(
        title="The last plan, block by block",
        svg=heat_map(
            [str(block) for block in range(num_blocks)],
            list(alike.values()),
            cell,
            corner="block",
            description="Which blocks each client has and the mean rank of their weights: "
            + ", ".join(f"{alike[name]}: {clients[name].cut}" for name in shown),
        ),
        caption="Shaded blocks are on the client, hatched ones on the worker for it. The number is "
        "the mean rank of the block's weights.",
    )


def together(what: Mapping[str, object]) -> dict[str, str]:
    """Which clients are shown, and under which names: of many, one for all that have the same."""
    names = in_order(what)
    if len(names) <= MOST_ROWS:
        return {name: name for name in names}
    alike: list[list[str]] = []
    for name in names:
        group = next((each for each in alike if what[each[0]] == what[name]), None)
        if group is None:
            alike.append([name])
        else:
            group.append(name)
    return {
        group[0]: group[0] if len(group) == 1 else f"{group[0]} +{len(group) - 1}"
        for group in alike
    }


def _mean_ranks(part: PlannedClient) -> dict[int, float]:
    by_block: dict[int, list[int]] = {}
    for weight, rank in part.ranks.items():
        if place := place_of(weight):
            by_block.setdefault(place[0], []).append(rank)
    return {block: sum(ranks) / len(ranks) for block, ranks in by_block.items()}


def _whys(run: Run) -> Table:
    assert run.plan is not None
    rows = tuple(
        (
            name,
            part.why,
            str(part.cut),
            _range([rank for rank in part.ranks.values() if rank]),
            str(sum(part.ranks.values())),
            seconds_text(part.client_seconds),
            seconds_text(part.worker_seconds),
        )
        for name, part in ((each, run.plan.clients[each]) for each in in_order(run.plan.clients))
    )
    return Table(
        title=f"Why, as planned for round {run.plan.server_round}",
        header=(
            "client",
            "why this cut",
            "cut",
            "ranks",
            "their sum",
            "step, client and link",
            "step, worker",
        ),
        rows=rows,
        num_texts=2,
        is_folded=len(rows) > 20,
    )


def _range(ranks: Sequence[int]) -> str:
    if not ranks:
        return NONE
    return str(ranks[0]) if min(ranks) == max(ranks) else f"{min(ranks)}–{max(ranks)}"


def _reasons(lines: Sequence[TrainingLine]) -> Table:
    rows = tuple(
        (
            str(line.server_round),
            "anew" if line.replanned else "stands",
            line.planning_reason,
            f"{line.drift:.3f}",
        )
        for line in lines
    )
    made = sum(line.replanned for line in lines)
    return Table(
        title=f"When the plan was made anew: {count_text(made, 'time')}",
        header=("round", "plan", "because", "importance moved"),
        rows=rows,
        num_texts=3,
        is_folded=len(rows) > 12,
    )
