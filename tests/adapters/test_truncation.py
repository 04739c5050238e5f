"""Which directions of an adapter are kept: against dense algebra, and against trying all ways."""

import itertools
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hsplit_flower.adapters import LowRank
from hsplit_flower.adapters.truncation import (
    canonical,
    energy_share,
    ranks_of_energy,
    ranks_within,
    truncated,
)
from hsplit_flower.errors import AdapterError

SHAPES = {"a": (7, 5, 3), "b": (4, 12, 4), "c": (6, 6, 2)}


def adapter(seed: int = 0) -> dict[str, LowRank]:
    """Weights of unequal shapes and ranks, in no order."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: LowRank(
            b=torch.randn(out, rank, generator=generator),
            a=torch.randn(rank, into, generator=generator),
        )
        for name, (out, into, rank) in SHAPES.items()
    }


def dense(updates: Mapping[str, LowRank]) -> dict[str, Tensor]:
    return {name: each.b.double() @ each.a.double() for name, each in updates.items()}


def plain_share(whole: Mapping[str, LowRank], kept: Mapping[str, LowRank]) -> float:
    """The share as its formula says it, of whole matrices."""
    wholes, parts = dense(whole), dense(kept)
    missing = sum(float((wholes[name] - parts[name]).square().sum()) for name in wholes)
    return 1 - missing / sum(float(each.square().sum()) for each in wholes.values())


@pytest.mark.parametrize("rank", [1, 2, 3, 9])
def test_a_lower_rank_is_the_best_approximation_of_that_rank(rank: int) -> None:
    whole = canonical(adapter())
    kept = truncated(whole, dict.fromkeys(whole, rank))
    for name, matrix in dense(adapter()).items():
        u, s, vh = torch.linalg.svd(matrix)
        size = min(rank, len(s))
        wanted = u[:, :size] * s[:size] @ vh[:size]
        torch.testing.assert_close(dense(kept)[name], wanted, rtol=0, atol=1e-5)
        assert kept[name].rank <= rank


@given(seed=st.integers(0, 50), share=st.floats(0.01, 0.999))
@settings(max_examples=40, deadline=None)
def test_the_directions_of_most_energy_per_byte_are_kept_and_no_more(
    seed: int, share: float
) -> None:
    whole = canonical(adapter(seed))
    ranks = ranks_of_energy(whole, share)
    assert energy_share(whole, truncated(whole, ranks)) >= share - 1e-6
    worth = {
        (name, index): float(torch.linalg.svdvals(matrix)[index] ** 2) / sum(matrix.shape)
        for name, matrix in dense(whole).items()
        for index in range(whole[name].rank)
    }
    kept = {(name, index) for name, rank in ranks.items() for index in range(rank)}
    last = min(kept, key=worth.__getitem__)
    assert all(worth[last] >= worth[each] * (1 - 1e-6) for each in set(worth) - kept)
    without = {**ranks, last[0]: ranks[last[0]] - 1}
    assert energy_share(whole, truncated(whole, without)) < share + 1e-6


def test_no_other_choice_of_as_few_bytes_keeps_more() -> None:
    whole = canonical(adapter())
    ranks = ranks_of_energy(whole, 0.8)
    got = energy_share(whole, truncated(whole, ranks))
    sizes = {name: out + into for name, (out, into, _) in SHAPES.items()}
    cost = sum(rank * sizes[name] for name, rank in ranks.items())
    for other in itertools.product(*(range(rank + 1) for *_, rank in SHAPES.values())):
        asked = dict(zip(SHAPES, other, strict=True))
        if sum(rank * sizes[name] for name, rank in asked.items()) <= cost:
            assert energy_share(whole, truncated(whole, asked)) <= got + 1e-6


def test_all_of_the_energy_is_every_direction_that_is_not_zero() -> None:
    whole = canonical(adapter()) | {"none": LowRank.zeros(3, 2)}
    ranks = ranks_of_energy(whole, 1.0)
    assert ranks == {name: update.rank for name, update in whole.items()}
    assert ranks_of_energy({"none": LowRank.zeros(3, 2)}, 0.5) == {"none": 0}
    assert ranks_of_energy({}, 0.5) == {}


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(AdapterError, match="above 0 and at most 1"):
        ranks_of_energy(canonical(adapter()), share)


@pytest.mark.parametrize("ranks", [{"a": 0, "b": 2, "c": 1}, {"a": 3, "b": 4, "c": 2}])
def test_the_share_is_that_of_the_whole_matrices(ranks: dict[str, int]) -> None:
    whole = canonical(adapter())
    kept = truncated(whole, ranks)
    assert energy_share(whole, kept) == pytest.approx(plain_share(whole, kept), abs=1e-6)


def test_another_adapter_than_leading_directions_has_the_share_that_it_is_of_it() -> None:
    whole = canonical(adapter())
    other = {name: update.scale(0.7) for name, update in whole.items()}
    assert energy_share(whole, other) == pytest.approx(1 - 0.3**2, abs=1e-6)
    del other["b"]
    zero = {**other, "b": whole["b"].head(0)}
    assert energy_share(whole, other) == pytest.approx(plain_share(whole, zero), abs=1e-6)


def test_nothing_is_all_of_nothing() -> None:
    nothing = {"none": LowRank.zeros(3, 2)}
    assert energy_share(nothing, nothing) == 1.0


@given(seed=st.integers(0, 50), mean_rank=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_no_more_is_kept_than_fits_and_no_larger_energy_is_passed_over(
    seed: int, mean_rank: int
) -> None:
    updates = canonical(adapter(seed))
    sizes = {name: out + into for name, (out, into, _) in SHAPES.items()}
    kept = ranks_within(updates, mean_rank)
    left = sum((mean_rank - kept[name]) * sizes[name] for name in SHAPES)
    assert left >= 0
    values = {
        name: torch.linalg.svdvals(matrix).square() / sizes[name]
        for name, matrix in dense(updates).items()
    }
    taken = [float(value) for name in SHAPES for value in values[name][: kept[name]]]
    passed = [
        float(value) for name in SHAPES for value in values[name][kept[name] : updates[name].rank]
    ]
    assert not taken or not passed or min(taken) >= max(passed) * (1 - 1e-5)
    assert not passed or left < max(sizes.values())
