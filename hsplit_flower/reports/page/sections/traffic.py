"""What each client sent and received, through Flower and to its worker."""

from ...client_totals import client_totals
from ...run import Run
from ..bar_chart import MOST_ROWS, Bar, stacked_bars
from ..numbers import bytes_text, share_text
from ..section import Figure, Section, Table

FIELDS = ("worker_up_bytes", "worker_down_bytes", "flower_up_bytes", "flower_down_bytes")
PARTS = ("to the worker", "from the worker", "to the server", "from the server")


def traffic(run: Run) -> Section:
    """Bytes of the whole run by client, training and evaluation together."""
    bars = _bars(run)
    if not bars:
        answer = "No bytes were counted."
        return Section(anchor="traffic", title="Bytes", answer=answer)
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
    sums = tuple(sum(column) for column in zip(*(bar.parts for bar in bars), strict=True))
    rows = [(bar.name, *map(bytes_text, bar.parts), bar.end) for bar in bars]
    rows.append(("all clients", *map(bytes_text, sums), bytes_text(sum(sums))))
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


def _bars(run: Run) -> list[Bar]:
    bars = []
    for client in client_totals(run):
        sums = tuple(client.total(field) for field in FIELDS)
        if any(sums):
            bars.append(Bar(name=client.name, parts=sums, end=bytes_text(sum(sums))))
    return bars


def _answer(run: Run, sums: tuple[float, ...]) -> str:
    total, rounds = sum(sums), max(len(run.training), 1)
    return (
        f"{bytes_text(total)} crossed the clients' links in the whole run, "
        f"{bytes_text(total / rounds)} a round; {share_text((sums[0] + sums[1]) / total)} of it to "
        f"and from the worker. {_labels(run)}"
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
