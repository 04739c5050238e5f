"""Greedy ranks against the exact knapsack, and the laws they keep."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.errors import NonFiniteError
from hsplit_flower.planning import choose_ranks, rank_gain
from hsplit_flower.planning.ranks import greedy_ranks, greedy_steps
from tests.reference.planning import best_gain

ALLOWED = (0, 1, 2, 4)
NAMES = ("w0", "w1", "w2", "w3", "w4")

costs = st.lists(st.integers(1, 30).map(float), min_size=1, max_size=len(NAMES))
scores = st.floats(0.0, 100.0).map(lambda score: round(score, 3))
bases = st.floats(0.05, 0.95)


@st.composite
def instances(draw: st.DrawFn) -> tuple[dict[str, float], dict[str, float], float, float]:
    rank_bytes = dict(zip(NAMES, draw(costs), strict=False))
    importance = {name: draw(scores) for name in rank_bytes}
    most = ALLOWED[-1] * sum(rank_bytes.values())
    return rank_bytes, importance, draw(st.floats(0.0, 1.1)) * most, draw(bases)


def gain_of(ranks: dict[str, int], importance: dict[str, float], base: float) -> float:
    return sum(importance[name] * rank_gain(rank, base) for name, rank in ranks.items())


def spent(ranks: dict[str, int], rank_bytes: dict[str, float]) -> float:
    return sum(rank * rank_bytes[name] for name, rank in ranks.items())


@given(instances())
def test_greedy_is_within_one_step_of_the_optimum(
    instance: tuple[dict[str, float], dict[str, float], float, float],
) -> None:
    rank_bytes, importance, budget, base = instance
    greedy = greedy_steps(rank_bytes, importance, allowed_ranks=ALLOWED, gain_base=base)
    ranks = greedy_ranks(greedy, budget)
    best = best_gain(
        list(rank_bytes.values()),
        list(importance.values()),
        budget_bytes=budget,
        allowed_ranks=ALLOWED,
        gain_base=base,
    )
    passed_over = next(
        (
            step.gain
            for step, so_far in zip(greedy.steps, greedy.spent_bytes, strict=False)
            if so_far > budget
        ),
        0.0,
    )
    assert best - passed_over - 1e-9 <= gain_of(ranks, importance, base) <= best + 1e-9


@given(instances())
def test_ranks_are_allowed_and_affordable(
    instance: tuple[dict[str, float], dict[str, float], float, float],
) -> None:
    rank_bytes, importance, budget, base = instance
    for known in (importance, None):
        ranks = choose_ranks(
            rank_bytes, known, budget_bytes=budget, allowed_ranks=ALLOWED, gain_base=base
        )
        assert ranks.keys() == rank_bytes.keys()
        assert set(ranks.values()) <= set(ALLOWED)
        assert spent(ranks, rank_bytes) <= budget


@given(instances())
def test_nothing_affordable_is_left(
    instance: tuple[dict[str, float], dict[str, float], float, float],
) -> None:
    rank_bytes, importance, budget, base = instance
    ranks = greedy_ranks(
        greedy_steps(rank_bytes, importance, allowed_ranks=ALLOWED, gain_base=base), budget
    )
    left = budget - spent(ranks, rank_bytes)
    for name, rank in ranks.items():
        if rank < ALLOWED[-1]:
            above = ALLOWED[ALLOWED.index(rank) + 1]
            assert (above - rank) * rank_bytes[name] > left - 1e-9


def test_more_important_weights_of_equal_cost_get_no_lower_rank() -> None:
    importance = {f"w{index}": float(index + 1) for index in range(8)}
    ranks = choose_ranks(
        dict.fromkeys(importance, 10.0),
        importance,
        budget_bytes=250.0,
        allowed_ranks=range(17),
        gain_base=0.5,
    )
    ordered = [ranks[name] for name in importance]
    assert ordered == sorted(ordered)
    assert len(set(ordered)) >= 3
    assert sum(ordered) == 25


def test_ranks_follow_importance_per_byte() -> None:
    ranks = choose_ranks(
        {"cheap": 1.0, "dear": 10.0},
        {"cheap": 1.0, "dear": 5.0},
        budget_bytes=10.0,
        allowed_ranks=(0, 1),
        gain_base=0.5,
    )
    assert ranks == {"cheap": 1, "dear": 0}


def test_unknown_importance_gives_the_same_rank_everywhere() -> None:
    rank_bytes = {"w0": 3.0, "w1": 5.0}
    for unknown in (None, {}, {"w0": 0.0, "w1": 0.0}):
        ranks = choose_ranks(
            rank_bytes, unknown, budget_bytes=31.0, allowed_ranks=ALLOWED, gain_base=0.5
        )
        assert ranks == {"w0": 2, "w1": 2}


def test_a_weight_without_a_score_counts_as_an_average_one() -> None:
    ranks = choose_ranks(
        dict.fromkeys(("low", "new", "high"), 1.0),
        {"low": 1.0, "high": 100.0},
        budget_bytes=2.0,
        allowed_ranks=(0, 1),
        gain_base=0.5,
    )
    assert ranks == {"low": 0, "new": 1, "high": 1}


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -1.0])
def test_importance_that_is_no_score_is_refused(score: float) -> None:
    with pytest.raises(NonFiniteError, match="w1"):
        choose_ranks(
            {"w0": 1.0, "w1": 1.0},
            {"w0": 1.0, "w1": score},
            budget_bytes=2.0,
            allowed_ranks=ALLOWED,
            gain_base=0.5,
        )


def test_steps_of_one_weight_keep_their_order_where_the_gain_is_saturated() -> None:
    # 1 - 0.1^r is 1.0 to machine precision from r = 16 on.
    ranks = choose_ranks(
        {"w0": 1.0, "w1": 1.0},
        {"w0": 1.0, "w1": 1e-12},
        budget_bytes=60.0,
        allowed_ranks=range(65),
        gain_base=0.1,
    )
    assert sum(ranks.values()) == 60


def test_gain_is_concave_and_starts_at_zero() -> None:
    gains = [rank_gain(rank, 0.7) for rank in range(10)]
    rises = [after - before for before, after in itertools.pairwise(gains)]
    assert gains[0] == 0.0
    assert all(rise > 0 for rise in rises)
    assert rises == sorted(rises, reverse=True)
