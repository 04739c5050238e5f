"""What each client sent and received, through Flower and to its worker."""

from collections.abc import Sequence

from ...client_totals import client_totals
from ...known_sum import KnownSum
from ...run import Run
from ..bar_chart import MOST_ROWS, Bar, stacked_bars
from ..numbers import bytes_text, share_text
from ..section import Figure, Section, Table

FIELDS = ("worker_up_bytes", "worker_down_bytes", "flower_up_bytes", "flower_down_bytes")
PARTS = ("to the worker", "from the worker", "to the server", "from the server")


def traffic(run: Run) -> Section:
    """Bytes of the whole run by client, training and evaluation together."""
    totals = _totals(run)
    if not totals:
        answer = "No bytes were counted."
        return Section(anchor="traffic", title="Bytes", answer=answer)
    bars = [
        Bar(name=name, parts=tuple(part.value for part in own), end=_text(sum(own, KnownSum())))
        for name, own in totals.items()
    ]
    many = f" The {MOST_ROWS} that sent most are shown." if len(bars) > MOST_ROWS else ""
    figure = Figure(
        title="Bytes of each client in the whole run",
        svg=stacked_bars(
            bars,
            PARTS,
            part_text=bytes_text,
            description="Bytes of each client: "
            + ", ".join(f"{bar.name} {bar.end}" for bar in bars[:MOST_ROWS]),
        ),
        caption="Hidden states and their gradients go to and from the worker, adapters and "
        f"instructions through Flower's server.{many}",
    )
    sums = [sum(column, KnownSum()) for column in zip(*totals.values(), strict=True)]
    rows = [*(_row(name, own) for name, own in totals.items()), _row("all clients", sums)]
    table = Table(
        title="Bytes by client",
        header=("client", *PARTS, "together"),
        rows=tuple(rows),
        is_folded=len(rows) > 21,
    )
    return Section(
        anchor="traffic",
        title="Bytes",
        answer=_answer(run, sums),
        figures=(figure,),
        tables=(table,),
    )


def _totals(run: Run) -> dict[str, list[KnownSum]]:
    """Each client's bytes, of those that have sent or received any."""
    totals = {one.name: [one.total(field) for field in FIELDS] for one in client_totals(run)}
    return {name: own for name, own in totals.items() if any(each.is_something for each in own)}


def _row(name: str, sums: Sequence[KnownSum]) -> tuple[str, ...]:
    return (name, *map(_text, sums), _text(sum(sums, KnownSum())))


def _text(total: KnownSum) -> str:
    return total.text(bytes_text)


def _answer(run: Run, sums: Sequence[KnownSum]) -> str:
    total, rounds = sum(sums, KnownSum()), max(len(run.training), 1)
    a_round = KnownSum(value=total.value / rounds, is_all=total.is_all)
    share = ""
    if total.value:
        part = share_text((sums[0].value + sums[1].value) / total.value)
        share = f"; {part} of it to and from the worker"
    return (
        f"{_text(total)} crossed the clients' links in the whole run, {_text(a_round)} a round"
        f"{share}. {_labels(run)}"
    )


def _labels(run: Run) -> str:
    """What of the clients' texts was in these bytes."""
    where = (run.config.get("training") or {}).get("labels")
    if where == "server":
        return (
            "Labels went to the worker with the hidden states: for a language model they are the "
            "text itself, so whoever runs the worker can read it."
        )
    if where == "client":
        return (
            "Labels stayed with the clients. Hidden states went to the worker, and from them much "
            "of a text can be found out."
        )
    return "Hidden states are made of the clients' texts, which can in part be read from them."
