"""Memory of each client: granted, predicted, and measured."""

from ...client_totals import client_totals
from ...run import Run
from ..budget_chart import Budget, budget_chart, tightest
from ..numbers import NONE, bytes_text, listed, share_text
from ..section import Figure, Section, Table


def memory(run: Run) -> Section:
    """The round that took most of each client, beside what it was granted."""
    budgets = _budgets(run)
    if not budgets:
        answer = "No client finished a round, so no memory was measured."
        return Section(anchor="memory", title="Memory", answer=answer)
    figure = Figure(
        title="Memory granted, predicted and measured",
        svg=budget_chart(
            budgets,
            description="Memory of each client: "
            + "; ".join(
                f"{each.name} took {bytes_text(each.measured_bytes or None)} of "
                f"{bytes_text(each.granted_bytes or None)}, {bytes_text(each.predicted_bytes)} "
                "was predicted"
                for each in tightest(budgets)
            ),
        ),
        caption=f"Each client's round that took most.{_folded(budgets)}",
    )
    table = Table(
        title="Memory by client",
        header=(
            "client",
            "granted",
            "predicted",
            "measured",
            "measured of predicted",
            "of granted",
        ),
        rows=tuple(map(_row, budgets)),
        is_folded=len(budgets) > 20,
    )
    return Section(
        anchor="memory",
        title="Memory",
        answer=_answer(budgets),
        figures=(figure,),
        tables=(table,),
    )


def _budgets(run: Run) -> list[Budget]:
    found = []
    for client in client_totals(run):
        if not client.finished:
            continue
        most = max(client.finished, key=lambda part: (part.peak_bytes, part.predicted_bytes))
        found.append(
            Budget(
                name=client.name,
                granted_bytes=most.budget_bytes,
                predicted_bytes=most.predicted_bytes,
                measured_bytes=most.peak_bytes,
            )
        )
    return found


def _answer(budgets: list[Budget]) -> str:
    over = [each.name for each in budgets if (each.used_share or 0.0) > 1.0]
    if over:
        return f"More than was granted was taken by {listed(over)}."
    used = [each for each in budgets if each.used_share is not None]
    if not used:
        return "Memory was predicted and not measured."
    most = max(used, key=lambda each: each.used_share or 0.0)
    return (
        f"Nobody took more than was granted; {most.name} came nearest, with "
        f"{share_text(most.used_share)} of {bytes_text(most.granted_bytes)}."
    )


def _row(each: Budget) -> tuple[str, ...]:
    measured = each.measured_bytes or None
    known = measured is not None and each.predicted_bytes > 0
    return (
        each.name,
        bytes_text(each.granted_bytes or None),
        bytes_text(each.predicted_bytes or None),
        bytes_text(measured),
        share_text(each.measured_bytes / each.predicted_bytes) if known else NONE,
        share_text(each.used_share),
    )


def _folded(budgets: list[Budget]) -> str:
    shown = len(tightest(budgets))
    if shown == len(budgets):
        return ""
    return f" Of {len(budgets)} clients the {shown} are shown that used most of what they had."
