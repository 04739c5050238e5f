"""Who was left out, in which rounds, and what of a change was not used."""

from typing import get_args

from hsplit_flower.reports.client_records import LeftOut
from hsplit_flower.reports.metrics import TrainingLine
from hsplit_flower.reports.page.sections.absences import absences
from hsplit_flower.reports.run import Run
from tests.reports.page.runs import run_of, trained, void_run


def test_nobody_was_left_out() -> None:
    section = absences(run_of())
    assert section.answer == "Nobody was left out of any round."
    assert section.tables == ()


def test_each_reason_has_its_rounds() -> None:
    (table,) = absences(void_run()).tables
    lost = ("did not finish", "the worker is gone: connection refused", "training", "1-3")
    assert ("clinic-porto", *lost) in table.rows
    assert ("st-mary", "did not answer", "no answer within 30 s", "training", "1-3") in table.rows


def test_rows_are_in_the_order_that_people_give_names() -> None:
    reason = LeftOut(kind="away", reason="so it is")
    left_out = {f"vm/{number}": reason for number in (10, 2, 1)}
    line = TrainingLine(server_round=1, completed=True, left_out=left_out)
    (table,) = absences(Run(name="a", lines=(line,))).tables
    assert [row[0] for row in table.rows] == ["vm/1", "vm/2", "vm/10"]


def test_every_kind_of_absence_has_its_words() -> None:
    kinds = get_args(LeftOut.model_fields["kind"].annotation)
    assert len(kinds) > 1
    left_out = {f"of-{kind}": LeftOut(kind=kind, reason="so it is") for kind in kinds}
    line = TrainingLine(server_round=1, completed=False, left_out=left_out)
    (table,) = absences(Run(name="a", lines=(line,))).tables
    assert {row[0] for row in table.rows} == left_out.keys()
    assert len({row[1] for row in table.rows}) == len(kinds)


def test_what_was_used_in_part_is_told() -> None:
    loud = trained(0, 1, 6).model_copy(update={"num_shortened": 3, "counted_examples": 400})
    lines = tuple(
        TrainingLine(server_round=number, completed=True, clients={"loud": loud})
        for number in (1, 2, 3)
    )
    (table,) = absences(Run(name="a", lines=lines)).tables
    told = (
        "its change was shortened in 3 weights; counts as 400 of the 1,000 examples that it claims"
    )
    assert table.rows == (("loud", told, "1-3"),)
