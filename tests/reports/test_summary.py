"""A user's questions, answered from the summary alone."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from hsplit_flower.reports import Run, RunFolder, client_totals, clients_table, read_run, summary
from hsplit_flower.reports.client_records import PersonalisedClient
from hsplit_flower.reports.known_sum import KnownSum
from hsplit_flower.reports.metrics import PersonalisationLine

from .runs import NO_ROOM, WORKER, example_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return example_run(tmp_path)


def section(text: str, title: str) -> str:
    return text.split(f"## {title}")[1].split("\n## ")[0]


def row_of(text: str, name: str) -> list[str]:
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_who_got_which_cut_and_why(run: Run) -> None:
    told = section(summary(run), "Who got which part, and why")
    assert row_of(told, "clinic-a") == [
        *("clinic-a", "2 of 2", "2", "4-8 (24)", "80 MB", "75 MB", "100 MB", WORKER)
    ]
    assert (
        "- clinic-a has cut 2. What binds it is **memory**: cut 3 takes 120 MB with the lowest "
        "ranks, it has 100 MB."
    ) in told
    assert "- Round 1 was planned anew: the first round." in told
    assert "13816022929839679101" not in summary(run)


def test_who_was_left_out_and_why(run: Run) -> None:
    told = section(summary(run), "Who was left out, and why")
    assert row_of(told, "clinic-c") == ["clinic-c", "1-2", NO_ROOM]
    assert row_of(told, "clinic-b") == ["clinic-b", "2", "its card fell off"]


def test_how_much_was_sent(run: Run) -> None:
    told = section(summary(run), "What was sent")
    assert row_of(told, "clinic-a")[1:] == ["2 MB", "1 MB", "4 kB", "6 kB", "3.01 MB"]
    # The one that dropped out in its second round counts with what is known of that.
    dropped = ["1.4 MB", "700 kB", "at least 2 kB", "6 kB", "at least 2.108 MB"]
    assert row_of(told, "clinic-b")[1:] == dropped
    assert row_of(told, "all")[-1] == "at least 5.118 MB"
    assert "Clients sent and received at least 5.118 MB in all." in summary(run)


def test_where_the_seconds_went(run: Run) -> None:
    told = section(summary(run), "Where the seconds went")
    assert row_of(told, "clinic-a")[1:] == ["1", "8", "4", "2", "6"]


def test_how_quality_moved_for_whom(run: Run) -> None:
    text = summary(run)
    told = section(text, "How quality moved, and for whom")
    losses, perplexities = told.split("The perplexity of examples")
    assert row_of(losses, "clinic-a")[1:] == ["4.5", "2.5", "20", "1280"]
    assert row_of(perplexities, "clinic-a")[1:4] == ["7.39", "2.72", "2"]
    assert "Perplexity of the server's examples: 54.6 before, 7.39 after" in text


def test_a_clients_name_is_a_cell_whatever_it_says(tmp_path: Path) -> None:
    run = example_run(tmp_path, name="a|b <script>*x*")
    told = section(summary(run), "Who got which part, and why").replace("\\|", "!")
    assert row_of(told, r"a!b \<script\>\*x\*")[1] == "2 of 2"


def test_of_a_run_without_a_round_it_says_so(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_config({"strategy": "hsplit-lora"})
    text = summary(read_run(tmp_path))
    assert "0 of 0 rounds completed" in text and "Nobody had a part in any round" in text


def test_the_table_has_a_row_for_everybody_in_every_round(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(clients_table(run))))
    assert len(rows) == 2 * (2 + 1 + 1)
    by_status = [row["status"] for row in rows if row["round"] == "2" and row["of"] == "training"]
    assert by_status == ["counted", "dropped", "left-out"]
    (own,) = [
        row
        for row in rows
        if (row["client"], row["round"], row["of"]) == ("clinic-a", "2", "training")
    ]
    assert (own["worker-up-bytes"], own["loss-after"], own["reason"]) == ("1000000", "2.5", "")
    (absent,) = {row["reason"] for row in rows if row["client"] == "clinic-c"}
    assert absent == NO_ROOM


def test_no_cell_of_the_table_is_a_formula(tmp_path: Path) -> None:
    text = clients_table(example_run(tmp_path, name='=HYPERLINK("x")'))
    names = {row["client"] for row in csv.DictReader(io.StringIO(text))}
    assert names == {'\'=HYPERLINK("x")', "clinic-b", "clinic-c"}


def test_totals_are_of_all_that_was_measured(run: Run) -> None:
    first, second, third = client_totals(run)
    assert [first.name, second.name, third.name] == ["clinic-a", "clinic-b", "clinic-c"]
    assert first.sent_bytes == KnownSum(value=2_004_000)
    assert first.received_bytes == KnownSum(value=1_006_000)
    assert (len(first.finished), len(second.finished), third.last) == (2, 1, None)
    assert third.absences[0].rounds_text == "1-2"


def test_what_clients_own_adapters_gained(run: Run) -> None:
    assert "own adapters" not in summary(run)
    own = {
        "clinic-a": PersonalisedClient(
            num_steps=20, num_tokens=300, perplexity_before=8.04, perplexity_after=6.5
        ),
        "clinic-b": PersonalisedClient(
            num_tokens=90, perplexity_before=9.0, dropped="its disk | is full"
        ),
    }
    last = PersonalisationLine(server_round=2, clients=own)
    told = summary(replace(run, lines=(*run.lines, last)))
    told = section(told, "What clients' own adapters gained")
    assert "After round 2 each client" in told
    assert row_of(told, "clinic-a") == ["clinic-a", "8.04", "6.5", "20", "300"]
    assert "| clinic-b | 9 | its disk \\| is full | 0 | 90 |" in told
