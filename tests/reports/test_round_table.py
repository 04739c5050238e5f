"""The clients of a round in few lines, however many they are."""

import pytest

from hsplit_flower.reports.client_records import TrainedClient
from hsplit_flower.reports.metrics import TrainingLine
from hsplit_flower.reports.round_table import MOST_ROWS, table_lines


def client(number: int, **other: object) -> TrainedClient:
    told = {
        "cut": 2 + number % 3,
        "least_rank": 4,
        "largest_rank": 16,
        "loss": 3.46123 + number / 100,
        "seconds": 1.0 + number,
        "worker_up_bytes": 790_000,
        "flower_up_bytes": 110_000,
        "worker_down_bytes": 12_000_000,
        "peak_bytes": 46.76e6,
        "budget_bytes": 84.53e6,
    }
    return TrainedClient(**{**told, **other})


def round_of(count: int) -> TrainingLine:
    clients = {f"clinic-{number}": client(number) for number in range(count)}
    return TrainingLine(server_round=1, completed=True, clients=clients)


def test_a_row_for_each_client_the_slowest_first() -> None:
    assert table_lines(round_of(2)) == [
        "client    cut  ranks   loss  seconds  sent MB  got MB     memory MB",
        "clinic-1    3   4-16  3.471     2.00     0.90    12.0  46.8 of 84.5",
        "clinic-0    2   4-16  3.461     1.00     0.90    12.0  46.8 of 84.5",
    ]


@pytest.mark.parametrize("count", [1, MOST_ROWS, MOST_ROWS + 1, 60, 1000])
def test_no_round_takes_more_lines(count: int) -> None:
    lines = table_lines(round_of(count))
    assert len(lines) == 1 + min(count, MOST_ROWS)


def test_the_middle_is_one_row_from_the_least_to_the_most() -> None:
    lines = table_lines(round_of(60))
    assert [line.split()[0] for line in (*lines[1:3], *lines[4:])] == [
        "clinic-59",
        "clinic-58",
        "clinic-1",
        "clinic-0",
    ]
    assert lines[3].split() == [
        "…", "56", "more", "2-4", "4-16", "3.481-4.031", "3.00-58.0", "0.90", "12.0", "46.8",
    ]  # fmt: skip


def test_who_does_not_count_is_no_row_and_what_was_not_measured_is_a_dash() -> None:
    clients = {"a": client(0, dropped="it slept"), "b": TrainedClient(cut=1, seconds=123.4)}
    lines = table_lines(TrainingLine(server_round=1, completed=True, clients=clients))
    assert [line.split() for line in lines[1:]] == [
        ["b", "1", "0", "-", "123", "-", "-", "-"],
    ]
    nobody = TrainingLine(server_round=1, completed=False, clients={"a": clients["a"]})
    assert table_lines(nobody) == []


def test_a_terminal_has_a_bold_header_and_a_file_has_none() -> None:
    assert "\x1b[1m" in table_lines(round_of(1), is_terminal=True)[0]
    assert "\x1b" not in "".join(table_lines(round_of(1)))


def test_a_name_is_text_and_no_markup() -> None:
    named = {"[bold]x[/bold]": client(0)}
    lines = table_lines(TrainingLine(server_round=1, completed=True, clients=named))
    assert lines[1].startswith("[bold]x[/bold]")
