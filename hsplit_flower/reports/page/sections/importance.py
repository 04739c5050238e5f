"""Which weights matter most for the texts of this run."""

from ...run import Run
from ..heat_map import Cell, heat_map
from ..numbers import NONE, listed, share_text
from ..section import Figure, Section, Table
from .blocks import grid_of, place_of

NUM_FIRST = 5


def importance(run: Run) -> Section:
    """A map of importance, block by weight, and the weights that have most of it."""
    known = [line for line in run.training if sum(line.importance.values()) > 0]
    if not known:
        answer = "No importance is on record: no round was completed, or the method measures none."
        return Section(anchor="importance", title="Importance", answer=answer)
    scores = known[-1].importance
    total = sum(scores.values())
    shares = {name: score / total for name, score in scores.items()}
    in_order = sorted(shares, key=lambda name: -shares[name])
    first = in_order[:NUM_FIRST]
    held = sum(shares[name] for name in first)
    told = listed([_words(name) for name in first])
    return Section(
        anchor="importance",
        title="Importance",
        answer=f"A weight is important where changing it changes the loss much. Of {len(shares)} "
        f"weights these {len(first)} have {share_text(held)} of it: {told}. More important weights "
        "get higher ranks where memory is short.",
        figures=(_figure(shares, known[-1].server_round),),
        tables=(_table(shares, in_order),),
    )


def _figure(shares: dict[str, float], server_round: int) -> Figure:
    blocks, kinds, by_place = grid_of(shares)

    def cell(row: int, column: int) -> Cell:
        share = by_place.get((blocks[row], kinds[column]))
        if share is None:
            return Cell(value=None, text=NONE)
        tip = f"block {blocks[row]}, {kinds[column]}: {_per_cent(share)} %"
        return Cell(value=share, text=_per_cent(share), tip=tip)

    return Figure(
        title="Importance by block and weight",
        svg=heat_map(
            [str(block) for block in blocks],
            kinds,
            cell,
            corner="block",
            description="Share of importance of each weight in each block, in per cent; the table "
            "has all of them in order",
        ),
        caption=f"Per cent of all importance, after round {server_round}. Block 0 is next to the "
        "text.",
    )


def _per_cent(share: float) -> str:
    return f"{100 * share:.1f}" if share >= 0.00995 else f"{100 * share:.2f}"


def _words(weight: str) -> str:
    """Where a weight is, as people say it."""
    place = place_of(weight)
    return f"{place[1].split('.')[-1]} in block {place[0]}" if place else weight


def _table(shares: dict[str, float], in_order: list[str]) -> Table:
    sums, rows = 0.0, []
    for number, name in enumerate(in_order, start=1):
        sums += shares[name]
        rows.append((name, str(number), f"{100 * shares[name]:.2f} %", f"{100 * sums:.1f} %"))
    return Table(
        title="All weights, the most important first",
        header=("weight", "place", "share", "together"),
        rows=tuple(rows),
        is_folded=True,
    )
