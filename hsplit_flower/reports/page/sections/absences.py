"""Who was left out of which rounds, and why; and whose change was used only in part."""

from collections.abc import Iterable, Iterator

from ....names import in_order
from ...client_totals import rounds_text
from ...metrics import ClientEvaluationLine, TrainingLine
from ...run import Run
from ..numbers import count_text, listed
from ..section import Section, Table

KINDS = {
    "silent": "did not answer",
    "refused": "refused",
    "memory": "memory too small",
    "away": "away",
    "gone": "left",
    "unplanned": "not planned for",
    "too-few": "too few clients",
}


def absences(run: Run) -> Section:
    """A row for each client and reason, with the rounds that it held for."""
    rows = _rows(run)
    trimmed = _trimmed(run)
    tables = []
    if rows:
        tables.append(
            Table(
                title="Left out",
                header=("client", "what", "why", "in", "rounds"),
                rows=tuple(rows),
                num_texts=4,
                is_folded=len(rows) > 30,
            )
        )
    if trimmed:
        tables.append(
            Table(
                title="Used in part",
                header=("client", "what", "rounds"),
                rows=tuple(trimmed),
                num_texts=2,
                is_folded=len(trimmed) > 30,
            )
        )
    names = list(dict.fromkeys(row[0] for row in rows))
    answer = (
        f"{count_text(len(names), 'client')} had no part in at least one round: {listed(names)}."
        if names
        else "Nobody was left out of any round."
    )
    if trimmed:
        touched = list(dict.fromkeys(row[0] for row in trimmed))
        answer += f" Used less than it asked for: {listed(touched)}."
    return Section(anchor="absences", title="Who was left out", answer=answer, tables=tuple(tables))


def _rows(run: Run) -> list[tuple[str, ...]]:
    """Client, what, why, in what, and in which rounds; training and evaluation in one row where
    they are of the same rounds.
    """
    found: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for place, lines in (("training", run.training), ("evaluation", run.client_evaluations)):
        for line in lines:
            for reason in _reasons(line):
                by_place = found.setdefault(reason, {})
                by_place.setdefault(place, []).append(line.server_round)
    rows = []
    for reason, by_place in found.items():
        by_rounds: dict[str, list[str]] = {}
        for place, numbers in by_place.items():
            by_rounds.setdefault(rounds_text(numbers), []).append(place)
        rows += [(*reason, listed(places), rounds) for rounds, places in by_rounds.items()]
    return _by_client(rows)


def _reasons(line: TrainingLine | ClientEvaluationLine) -> Iterator[tuple[str, str, str]]:
    """Client, what, and why, of all that do not count."""
    for name, absent in line.left_out.items():
        yield name, KINDS[absent.kind], absent.reason
    for name, part in line.clients.items():
        if part.dropped is not None:
            yield name, "did not finish", part.dropped


def _trimmed(run: Run) -> list[tuple[str, ...]]:
    """What of clients that finished was not used, with the rounds that it holds for."""
    found: dict[tuple[str, str], list[int]] = {}
    for line in run.training:
        for name, part in line.clients.items():
            told = []
            if not part.counts:
                continue
            if not part.selected:
                told.append("not selected")
            if part.num_shortened:
                told.append(
                    f"its change was shortened in {count_text(part.num_shortened, 'weight')}"
                )
            if part.counted_examples < part.num_examples:
                told.append(
                    f"counts as {part.counted_examples:,} of the {part.num_examples:,} examples "
                    "that it claims"
                )
            if told:
                found.setdefault((name, "; ".join(told)), []).append(line.server_round)
    return _by_client((*what, rounds_text(numbers)) for what, numbers in found.items())


def _by_client(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rows in the order in which people have the names they begin with, then by what follows."""
    rows = list(rows)
    place = {name: number for number, name in enumerate(in_order({row[0] for row in rows}))}
    return sorted(rows, key=lambda row: (place[row[0]], *row))
