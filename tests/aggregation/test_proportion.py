"""How far one client may be from the others: laws over random rounds."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.aggregation import Proportion, limited, lower_median, proportions

norms = st.floats(1e-6, 1e6)
rounds = st.lists(norms, min_size=1, max_size=9)


def of_one_weight(values: list[float]) -> dict[int, dict[str, float]]:
    return {client: {"q": value} for client, value in enumerate(values)}


def found_in(
    told: dict[int, dict[str, float]], clip: float, refuse: float
) -> dict[int, Proportion]:
    """Where every weight is a block of its own."""
    return proportions(told, told, clip_above=clip, refuse_above=refuse)


@given(rounds, st.floats(1.0, 5.0))
def test_nobody_is_longer_than_the_multiple_of_the_median_and_no_direction_is_lost(
    values: list[float], clip_above: float
) -> None:
    found = found_in(of_one_weight(values), clip_above, 0.0)
    bound = clip_above * lower_median(values) * (1 + 1e-12)
    for client, value in enumerate(values):
        share = found[client].kept.get("q", 1.0)
        assert 0 < share <= 1
        assert share * value <= bound or len(values) == 1
        assert (share < 1) == (len(values) > 1 and value > clip_above * lower_median(values))
        assert not found[client].is_refused


@given(rounds, st.floats(1e3, 1e9))
def test_a_minority_moves_the_bound_no_further_than_honest_clients_do(
    honest: list[float], lie: float
) -> None:
    """With fewer liars than honest ones, however large they are, the median is an honest one's."""
    liars = [max(honest) * lie] * (len(honest) - 1)
    assert min(honest) <= lower_median([*honest, *liars]) <= max(honest)
    tiny = [min(honest) / lie] * ((len(honest) - 1) // 2)
    assert lower_median([*honest, *tiny]) >= min(honest)


@given(st.lists(norms, min_size=3, max_size=9), st.floats(1.0, 20.0))
def test_who_is_refused_is_named_with_kind_and_multiple(values: list[float], most: float) -> None:
    told = {client: {"o": 1.0, **own} for client, own in of_one_weight(values).items()}
    found = found_in(told, 0.0, most)
    for client, value in enumerate(values):
        multiple = value / lower_median(values)
        assert found[client].is_refused == (multiple > most)
        if multiple > 1:
            assert found[client].where == "q"
            assert found[client].multiple == pytest.approx(multiple)


def test_of_two_the_larger_is_shortened_and_nobody_refused() -> None:
    found = found_in(of_one_weight([1.0, 30.0]), 3.0, 10.0)
    assert not any(each.is_refused for each in found.values())
    assert found[1].kept == {"q": pytest.approx(0.1)}
    assert not found[0].kept


def test_what_one_client_alone_trains_and_what_nobody_changed_is_not_compared() -> None:
    alone = {0: {"q": 1.0, "up": 9e9}, 1: {"q": 1.0}, 2: {"q": 1.0}}
    still = {client: {"q": 0.0} for client in range(3)} | {3: {"q": 5.0}}
    for told in (alone, still):
        found = found_in(told, 3.0, 10.0)
        assert not any(each.kept or each.is_refused for each in found.values())


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=7), st.floats(1.0, 20.0))
def test_a_limit_keeps_the_order_and_what_is_within_it(values: list[float], above: float) -> None:
    told = {client: {"w": value} for client, value in enumerate(values)}
    cut = [own["w"] for own in limited(told, above).values()]
    median = lower_median(values)
    for before, after in zip(values, cut, strict=True):
        assert after == (before if not median else min(before, above * median))
    kept = [after for _, after in sorted(zip(values, cut, strict=True))]
    assert all(one <= next_one for one, next_one in pairwise(kept))
    assert limited(told, 0.0) == told
