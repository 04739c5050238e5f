"""Krum against its definition in plain Python."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.aggregation import krum
from hsplit_flower.aggregation.krum import krum_scores


def distances(points: list[float]) -> torch.Tensor:
    at = torch.tensor(points, dtype=torch.float64)
    return (at[:, None] - at[None, :]).square()


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=9), st.integers(0, 4))
def test_a_score_is_the_sum_over_the_nearest_others(points: list[float], liars: int) -> None:
    scores = krum_scores(distances(points), liars)
    nearest = max(1, len(points) - liars - 2)
    for place, score in enumerate(scores.tolist()):
        others = sorted((points[place] - x) ** 2 for i, x in enumerate(points) if i != place)
        assert score == pytest.approx(sum(others[:nearest]), abs=1e-9)


@given(
    st.lists(st.floats(-1, 1), min_size=5, max_size=8),
    st.lists(st.floats(50, 100), min_size=1, max_size=1),
    st.randoms(),
)
def test_a_far_minority_is_never_selected(honest: list[float], far: list[float], random) -> None:  # type: ignore[no-untyped-def]
    everybody = [(x, True) for x in honest] + [(x, False) for x in far]
    random.shuffle(everybody)
    table = distances([x for x, _ in everybody])
    (one,) = krum(table, len(far), num_selected=1)
    several = krum(table, len(far), num_selected=len(honest))
    assert everybody[one][1]
    assert all(everybody[place][1] for place in several)
    assert one in several and several == sorted(several)
