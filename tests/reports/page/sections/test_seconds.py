"""The parts of a client's round add up to it."""

from hsplit_flower.reports.page.sections.seconds import seconds
from tests.reports.page.runs import CLINICS, run_of, void_run


def test_means_over_the_rounds_by_what_they_went_into() -> None:
    measured, simulated = seconds(run_of()).tables
    assert [row[0] for row in measured.rows] == sorted(CLINICS)
    # others: 24 to 27 s in four rounds
    assert measured.rows[0][1:] == ("8.00 s", "6.00 s", "2.00 s", "25.5 s", "1.00 s", "42.5 s")
    assert simulated.rows[0][1:] == ("62 ms", "62 ms", "3.00 s", "0.125 s", "3.25 s")


def test_a_deployment_has_no_simulated_seconds() -> None:
    section = seconds(run_of(is_simulated=False))
    assert len(section.tables) == 1
    assert "simulated" not in section.answer


def test_of_clients_that_did_not_finish_no_seconds_are_told() -> None:
    assert seconds(void_run()).tables == ()
