"""Rounds without a change share a column, and no round is lost."""

from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.reports.client_records import TrainedClient
from hsplit_flower.reports.metrics import TrainingLine
from hsplit_flower.reports.page.sections.placement import placement, spans_of
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
