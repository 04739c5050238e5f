"""Rounds without a change share a column, and no round is lost."""

from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.reports.client_records import TrainedClient
from hsplit_flower.reports.metrics import TrainingLine
from hsplit_flower.reports.page.sections.placement import placement, spans_of, together
from tests.reports.page.runs import run_of

cuts = st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(1, 3)), max_size=8)


@given(cuts)
def test_spans_tell_every_round(by_round: list[dict[str, int]]) -> None:
    lines = [
        TrainingLine(
            server_round=number,
            completed=True,
            clients={name: TrainedClient(cut=cut) for name, cut in own.items()},
        )
        for number, own in enumerate(by_round, start=1)
    ]
    told = []
    for rounds, parts in spans_of(lines):
        first, _, last = rounds.partition("–")
        told += [
            {name: cut for name, (cut, _) in parts.items()}
            for _ in range(int(first), int(last or first) + 1)
        ]
    assert told == by_round


def test_a_changed_plan_makes_another_column() -> None:
    assert [rounds for rounds, _ in spans_of(run_of().training)] == ["1", "2–4"]


def test_the_table_says_why_each_client_has_its_cut() -> None:
    whys, reasons = placement(run_of()).tables
    assert whys.rows[0][:3] == ("clinic-porto", "one block more needs 187 MB, it has 167 MB", "1")
    assert [row[1] for row in reasons.rows] == ["anew", "anew", "stands", "stands"]


def test_of_many_clients_those_with_the_same_are_one_row() -> None:
    few = {f"vm/{number}": number % 2 for number in range(20)}
    assert list(together(few).values()) == [f"vm/{number}" for number in range(20)]
    many = {f"vm/{number}": number % 2 for number in range(59)} | {"bank": 7}
    assert together(many) == {
        "bank": "bank",
        "vm/0": "vm/0 +29",
        "vm/1": "vm/1 +28",
    }
    clients = [f"vm/{number}" for number in range(60)]
    timeline, *_ = placement(run_of(clients=clients)).figures
    assert "vm/0 +11" in timeline.svg and "vm/5" not in timeline.svg
