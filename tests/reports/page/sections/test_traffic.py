"""Bytes add up over clients, rounds and directions."""

import dataclasses

from hsplit_flower.reports.page.sections.traffic import traffic
from tests.reports.page.runs import run_of, void_run


def test_the_last_row_is_the_sum_of_all() -> None:
    (table,) = traffic(run_of(num_rounds=4)).tables
    assert table.rows[0][1:] == ("48.0 MB", "44.0 MB", "4.00 MB", "8.00 MB", "104 MB")
    assert table.rows[-1] == ("all clients", "240 MB", "220 MB", "20.0 MB", "40.0 MB", "520 MB")


def test_nothing_was_counted() -> None:
    assert traffic(void_run()).answer == "No bytes were counted."


def test_what_of_the_texts_was_sent_is_told_as_it_is() -> None:
    for labels, told in (("server", "can read it"), ("client", "Labels stayed with the clients")):
        run = dataclasses.replace(run_of(), config={"training": {"labels": labels}})
        assert told in traffic(run).answer
