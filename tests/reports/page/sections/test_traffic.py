"""Bytes add up over clients, rounds and directions."""

import dataclasses

from hsplit_flower.reports.page.sections.traffic import traffic
from tests.reports.page.runs import CLINICS, run_of, void_run


def test_the_last_row_is_the_sum_of_all() -> None:
    (table,) = traffic(run_of(num_rounds=4)).tables
    assert table.rows[0][1:] == ("48.0 MB", "44.0 MB", "4.00 MB", "8.00 MB", "104 MB")
    assert table.rows[-1] == ("all clients", "240 MB", "220 MB", "20.0 MB", "40.0 MB", "520 MB")


def test_what_a_client_has_sent_that_nobody_knows_is_no_zero() -> None:
    run = run_of(num_rounds=2)
    lost = {"worker_up_bytes": None, "worker_down_bytes": None, "flower_up_bytes": None}
    dropped = run.training[0].clients[CLINICS[0]].model_copy(update={**lost, "dropped": "it fell"})
    line = run.training[0].model_copy(update={"clients": {CLINICS[0]: dropped}})
    section = traffic(dataclasses.replace(run, lines=(line, *run.training[1:])))
    first, *_, together = section.tables[0].rows
    assert first[1:] == (
        "at least 12.0 MB",
        "at least 11.0 MB",
        "at least 1.00 MB",
        "4.00 MB",
        "at least 28.0 MB",
    )
    assert together[1].startswith("at least ")
    assert section.answer.startswith("at least ")
    only = traffic(dataclasses.replace(run, lines=(line,))).tables[0].rows[0]
    assert only[1:] == ("not known", "not known", "not known", "2.00 MB", "at least 2.00 MB")


def test_nothing_was_counted() -> None:
    assert traffic(void_run()).answer == "No bytes were counted."


def test_what_of_the_texts_was_sent_is_told_as_it_is() -> None:
    for labels, told in (("server", "can read it"), ("client", "Labels stayed with the clients")):
        run = dataclasses.replace(run_of(), config={"training": {"labels": labels}})
        assert told in traffic(run).answer
