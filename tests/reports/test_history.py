"""What a run's lines of metrics add up to."""

import math
from functools import reduce
from pathlib import Path

from hsplit_flower.reports import (
    AnyLine,
    ClientEvaluationLine,
    RunFolder,
    ServerEvaluationLine,
    TrainingLine,
)
from hsplit_flower.reports.client_records import LeftOut, TrainedClient
from hsplit_flower.reports.history import RunHistory, read_history


def trained(number: int, *dropped: str | None, completed: bool = True) -> TrainingLine:
    """A line of a round, with a client for each of these."""
    clients = {f"c{n}": TrainedClient(cut=1, dropped=reason) for n, reason in enumerate(dropped)}
    return TrainingLine(server_round=number, completed=completed, clients=clients)


def measured(number: int, perplexity: float) -> ServerEvaluationLine:
    return ServerEvaluationLine(server_round=number, loss=1.0, perplexity=perplexity)


def history(*lines: AnyLine) -> RunHistory:
    return reduce(RunHistory.after, lines, RunHistory())


def test_rounds_clients_and_perplexities_are_counted() -> None:
    found = history(
        measured(0, 47.5),
        trained(1, None, None, "slow"),
        measured(1, 3.0),
        trained(2, None, None, None),
        measured(2, 2.0),
    )
    assert (found.num_rounds, found.num_completed, found.num_clients) == (2, 2, 3)
    assert (found.perplexity_before, found.perplexity_after) == (47.5, 2.0)
    assert found.reasons == ()


def test_tokens_are_counted_of_what_rounds_that_count_have_learnt() -> None:
    def line(number: int, *, completed: bool = True) -> TrainingLine:
        clients = {
            "a": TrainedClient(cut=1, num_tokens=100),
            "b": TrainedClient(cut=1, num_tokens=20),
            "c": TrainedClient(cut=1, num_tokens=None, dropped="slow"),
        }
        return TrainingLine(server_round=number, completed=completed, clients=clients)

    assert history(line(1), line(2, completed=False), line(3)).num_tokens == 240


def test_what_clients_measured_is_kept_apart() -> None:
    found = history(
        trained(1, None),
        ClientEvaluationLine(server_round=1, perplexity=4.0),
        ClientEvaluationLine(server_round=2),
    )
    assert found.client_perplexities == {1: 4.0}
    assert found.perplexity_after is None


def test_before_a_rounds_result_is_measured_there_is_none() -> None:
    found = history(measured(0, 47.5), trained(1, None), measured(1, 3.0), trained(2, None))
    assert found.perplexity_after is None


def test_a_round_that_does_not_count_leaves_the_result_of_the_one_before() -> None:
    found = history(
        measured(0, 47.5),
        trained(1, None, None),
        measured(1, 3.0),
        trained(2, "slow", "away", "slow", completed=False),
        measured(2, 3.0),
    )
    assert (found.num_rounds, found.num_completed, found.last_completed) == (2, 1, 1)
    assert (found.perplexity_after, found.num_clients) == (3.0, 2)
    assert found.reasons == ("slow", "away")


def test_a_void_run_has_no_result() -> None:
    found = history(measured(0, 47.5), trained(1, "slow", completed=False), measured(1, 47.5))
    assert (found.num_completed, found.num_clients, found.perplexity_after) == (0, 0, None)
    assert RunHistory().perplexity_before is RunHistory().perplexity_after is None


def test_who_was_left_out_of_the_last_round_is_among_its_reasons() -> None:
    left_out = {"c9": LeftOut(kind="memory", reason="no room")}
    line = trained(1, "slow", completed=False).model_copy(update={"left_out": left_out})
    assert history(line).reasons == ("slow", "no room")


def test_it_is_read_from_a_runs_folder(tmp_path: Path) -> None:
    assert read_history(tmp_path) == RunHistory()
    lines = [trained(1, None), measured(1, math.inf), ClientEvaluationLine(server_round=1)]
    folder = RunFolder(tmp_path)
    for line in lines:
        folder.add_metrics(line)
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"server-round": 2, "comp')
    assert read_history(tmp_path) == history(*lines)
    assert read_history(tmp_path).perplexity_after == math.inf


def test_the_best_round_is_the_completed_one_of_the_lowest_perplexity() -> None:
    known = history(measured(0, 1.0))
    assert known.best_round == 0, "before training there is no round to keep"
    told = [
        (trained(1, None, completed=False), measured(1, 0.5), 0),
        (trained(2, None), measured(2, 9.0), 2),
        (trained(3, None), measured(3, 4.0), 3),
        (trained(4, None), measured(4, math.inf), 3),
        (trained(5, None), measured(5, math.nan), 3),
        (trained(6, None), measured(6, 4.0), 3),
    ]
    for round_line, measure_line, best in told:
        known = known.after(round_line).after(measure_line)
        assert known.best_round == best
