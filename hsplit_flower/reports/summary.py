"""``summary.md``: a run in words and tables, for somebody who was not there."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..sizes import size_text
from .client_totals import ClientTotals, client_totals
from .clients_table import CLIENTS_FILE
from .history import RunHistory
from .known_sum import KnownSum
from .markdown import rendered
from .noise_text import run_noise_text
from .run import Run

SUMMARY_FILE = "summary.md"
TEMPLATE_FILE = "summary_template.md"
SECONDS = ("setup", "computing", "worker", "link", "others")
BYTES = ("worker_up", "worker_down", "flower_up", "flower_down")


def summary(run: Run) -> str:
    """What a run was, who did what in it, and what came of it, in Markdown."""
    clients = client_totals(run)
    return rendered(
        TEMPLATE_FILE,
        run=run,
        facts=_facts(run.config),
        history=RunHistory.of(run.lines),
        clients=[one for one in clients if one.trained],
        evaluating=[one for one in clients if one.evaluations],
        absent=[one for one in clients if one.absences],
        replans=[line for line in run.training if line.replanned],
        totals=_totals(clients),
        noise=run_noise_text(run),
        seconds_of=_seconds,
        bytes_of=_bytes,
        size=_size,
        number=_number,
        plural=lambda count: "" if count == 1 else "s",
        table=CLIENTS_FILE,
    )


def _facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was set to that is asked first."""
    model = config.get("model") or {}
    training = config.get("training") or {}
    facts = {
        "method": config.get("strategy"),
        "model": model.get("name"),
        "computes in": model.get("dtype"),
        "data": config.get("dataset"),
        "labels are with": training.get("labels"),
        "batch size": training.get("batch-size"),
        "tokens a row at most": training.get("sequence-length"),
        "steps a round": config.get("local-steps"),
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _totals(clients: Sequence[ClientTotals]) -> dict[str, str]:
    """All clients' bytes."""
    sums = {
        name: sum((client.total(name) for client in clients), KnownSum())
        for name in (f"{each}_bytes" for each in BYTES)
    }
    sums["all"] = sum(sums.values(), KnownSum())
    return {name: value.text(_size) for name, value in sums.items()}


def _seconds(client: ClientTotals) -> list[str]:
    return [client.total(f"{name}_seconds").text(_number) for name in SECONDS]


def _bytes(client: ClientTotals) -> list[str]:
    own = [client.total(f"{name}_bytes") for name in BYTES]
    return [value.text(_size) for value in (*own, sum(own, KnownSum()))]


def _size(number_bytes: float | None) -> str:
    return size_text(number_bytes) if number_bytes else "-"


def _number(value: float | None) -> str:
    """To three digits that mean something."""
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
