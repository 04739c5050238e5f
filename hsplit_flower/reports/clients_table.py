"""``clients.csv``: a row for each client in each round, for whoever counts on by themselves."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from .client_records import EvaluatedClient, LeftOut, TrainedClient
from .metrics import ClientEvaluationLine, TrainingLine
from .run import Run

CLIENTS_FILE = "clients.csv"
_LISTS = "block_ranks"
_SHARED = {**LeftOut.model_fields, **TrainedClient.model_fields, **EvaluatedClient.model_fields}
COLUMNS = (
    "round",
    "of",
    "client",
    "status",
    *(name.replace("_", "-") for name in _SHARED if name not in (_LISTS, "kind", "dropped")),
)
"""Those of records of clients, by their keys; ``status`` is counted, dropped or left-out."""

# What spreadsheets take for a formula at the start of a cell.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def clients_table(run: Run) -> str:
    """The rows of a run, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in _rows(run))
    return text.getvalue()


def _rows(run: Run) -> Iterator[Mapping[str, Any]]:
    for line in run.lines:
        if not isinstance(line, TrainingLine | ClientEvaluationLine):
            continue
        start = {"round": line.server_round, "of": line.kind}
        for name, client in line.clients.items():
            status = "counted" if client.dropped is None else "dropped"
            values = {**client.to_dict(), "reason": client.dropped}
            yield {**values, **start, "client": name, "status": status}
        for name, one in line.left_out.items():
            yield {**one.to_dict(), **start, "client": name, "status": "left-out"}


def _cell(value: object) -> object:
    """Nothing for None; texts are told apart from formulas, as names are others' words."""
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
