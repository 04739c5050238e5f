"""What a run's lines of metrics add up to."""

import json
import math
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.reports.history import RunHistory, read_history


def trained(number: int, *dropped: str | None, completed: bool = True) -> dict[str, Any]:
    """A line of a round, with a client for each of these."""
    clients = {str(node): {"dropped": reason} for node, reason in enumerate(dropped)}
    return {"server-round": number, "completed": completed, "clients": clients}


def measured(number: int, perplexity: float | str) -> dict[str, Any]:
    return {"server-round": number, "loss": 1.0, "perplexity": perplexity}


def history(*lines: dict[str, Any]) -> RunHistory:
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


def test_it_is_read_from_a_runs_folder(tmp_path: Path) -> None:
    assert read_history(tmp_path) == RunHistory()
    lines = [trained(1, None), measured(1, "inf"), {"server-round": 1, "something": "else"}]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"server-round": 2, "comp', encoding="utf-8")
    assert read_history(tmp_path) == history(*lines)
    assert read_history(tmp_path).perplexity_after == math.inf


@pytest.mark.parametrize(
    "line", ["not json", "[1]", '{"loss": 1.0}', '{"server-round": 1, "clients": 3}']
)
def test_what_is_no_line_of_metrics_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"metrics\.jsonl holds a line"):
        read_history(tmp_path)


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
