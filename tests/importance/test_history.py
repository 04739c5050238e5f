"""Importance over rounds: the mean over clients, the blend with the past, the price of a rank."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.errors import NonFiniteError
from hsplit_flower.importance import (
    LARGEST_SCORE,
    ImportanceHistory,
    ImportanceReport,
    blend,
    check_finite,
    history_weight,
    mean_scores,
)
from hsplit_flower.importance.history import BETA_MAX

scores = st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1e6))
counts = st.integers(1, 10_000)


@pytest.mark.parametrize("score", [math.nan, math.inf, -1.0])
def test_a_report_that_is_not_finite_is_rejected(score: float) -> None:
    with pytest.raises(NonFiniteError, match="importance of 'b'"):
        ImportanceReport(num_examples=1, scores={"a": 1.0, "b": score})
    with pytest.raises(NonFiniteError, match="zero or more is wanted"):
        check_finite({"b": score})


def test_no_report_makes_a_sum_overflow() -> None:
    with pytest.raises(NonFiniteError, match=r"importance of 'a' is 1e\+308: 1e\+30 or less"):
        ImportanceReport(num_examples=1, scores={"a": 1e308})
    largest = ImportanceReport(num_examples=2**40, scores={"a": LARGEST_SCORE})
    history = ImportanceHistory()
    for _ in range(100):
        history = blend(history, mean_scores([largest] * 1000), beta=BETA_MAX)
    check_finite(history.scores)


def test_the_mean_is_weighted_by_examples_over_those_who_scored() -> None:
    reports = [
        ImportanceReport(num_examples=10, scores={"a": 1.0, "b": 3.0}),
        ImportanceReport(num_examples=30, scores={"a": 5.0}),
    ]
    assert mean_scores(reports) == {"a": 4.0, "b": 3.0}
    assert mean_scores([]) == {}


@given(st.lists(st.tuples(counts, scores), max_size=5), st.randoms())
def test_the_mean_does_not_depend_on_the_order(
    clients: list[tuple[int, dict[str, float]]], random: object
) -> None:
    reports = [ImportanceReport(num_examples=n, scores=s) for n, s in clients]
    shuffled = list(reports)
    random.shuffle(shuffled)
    assert mean_scores(shuffled) == pytest.approx(mean_scores(reports))
    for name, mean in mean_scores(reports).items():
        known = [report.scores[name] for report in reports if name in report.scores]
        assert min(known) * (1 - 1e-9) <= mean <= max(known) * (1 + 1e-9)


@given(st.integers(0, 50), st.floats(0, 1))
def test_the_past_weighs_nothing_at_first_and_most_when_settled(rounds: int, drift: float) -> None:
    beta = history_weight(rounds, drift)
    assert 0.0 <= beta < 1.0
    assert history_weight(0, drift) == 0.0
    assert history_weight(rounds, 1.0) == 0.0
    assert history_weight(rounds + 1, drift) >= beta
    assert history_weight(rounds, min(1.0, drift + 0.1)) <= beta


def test_a_drift_out_of_range_is_taken_as_its_nearest() -> None:
    assert history_weight(9, 1.5) == 0.0
    assert history_weight(9, -0.5) == history_weight(9, 0.0)


def test_the_blend_keeps_what_only_one_side_knows() -> None:
    history = ImportanceHistory(scores={"a": 1.0, "b": 2.0}, num_rounds=3)
    blended = blend(history, {"b": 6.0, "c": 5.0}, beta=0.25)
    assert blended == ImportanceHistory(scores={"a": 1.0, "b": 5.0, "c": 5.0}, num_rounds=4)
    assert history.scores == {"a": 1.0, "b": 2.0}


@given(scores, scores, st.floats(0, 1))
def test_a_blend_lies_between_past_and_today(
    past: dict[str, float], today: dict[str, float], beta: float
) -> None:
    blended = blend(ImportanceHistory(scores=past), today, beta).scores
    assert blended.keys() == past.keys() | today.keys()
    for name, score in blended.items():
        sides = [side[name] for side in (past, today) if name in side]
        assert min(sides) - 1e-6 <= score <= max(sides) + 1e-6
