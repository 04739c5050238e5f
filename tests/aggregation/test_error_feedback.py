"""A global adapter of bounded size: what fits is sent, and it is what holds most."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.adapters import LowRank, UpdateSum
from hsplit_flower.aggregation import bounded, head_of
from hsplit_flower.settings import Aggregation
from hsplit_flower.types import AdapterType
from tests.reference.aggregation import dense

SHAPES = {"q": (6, 5), "k": (3, 5), "up": (9, 5)}


def random_sums(ranks: dict[str, int], seed: int) -> dict[str, UpdateSum]:
    draws = torch.Generator().manual_seed(seed)
    return {
        name: UpdateSum(
            content=LowRank(
                b=torch.randn(rows, ranks[name], generator=draws),
                a=torch.randn(ranks[name], columns, generator=draws),
            )
        )
        for name, (rows, columns) in SHAPES.items()
    }


some_ranks = st.fixed_dictionaries({name: st.integers(0, 5) for name in SHAPES})


@settings(max_examples=50, deadline=None)
@given(
    ranks=some_ranks,
    mean_rank=st.integers(1, 6),
    rank_cap=st.sampled_from([0, 1, 3]),
    dtype=st.sampled_from(AdapterType),
    seed=st.integers(0, 2**16),
)
def test_what_is_sent_fits_and_its_share_is_said(
    ranks: dict[str, int], mean_rank: int, rank_cap: int, dtype: AdapterType, seed: int
) -> None:
    sums = random_sums(ranks, seed)
    options = Aggregation(mean_rank=mean_rank, rank_cap=rank_cap, adapter_dtype=dtype)
    adapter = bounded(sums, options, near={})
    head = adapter.updates
    numbers = sum(update.b.numel() + update.a.numel() for update in head.values())
    assert numbers <= mean_rank * sum(sum(shape) for shape in SHAPES.values())
    if rank_cap:
        assert max(update.rank for update in head.values()) <= rank_cap
    if dtype is AdapterType.FLOAT16:
        for update in head.values():
            assert torch.equal(update.b, update.b.half().float())
            assert torch.equal(update.a, update.a.half().float())
    whole = {name: dense(total.canonical()) for name, total in sums.items()}
    rest = sum(float((whole[name] - dense(head[name])).square().sum()) for name in SHAPES)
    total = sum(float(matrix.square().sum()) for matrix in whole.values())
    wanted = rest / total if total else 0.0
    assert adapter.held_back_share == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    assert adapter.sums == sums
    assert adapter.dropped_share == 0.0


def test_what_is_small_is_given_up_where_that_is_asked_for() -> None:
    sums = random_sums({"q": 5, "k": 1, "up": 5}, 3)
    options = Aggregation(mean_rank=2, rank_cap=2, adapter_dtype=AdapterType.FLOAT32)
    kept = bounded(sums, options, near={})
    for limit, names in ((1e-4, {"q", "up"}), (1.0, set())):
        adapter = bounded(sums, options.replace(drop_below=limit), near={})
        assert set(adapter.sums) == names
        assert all(torch.equal(adapter.updates[n].b, kept.updates[n].b) for n in SHAPES)
        both = adapter.held_back_share + adapter.dropped_share
        assert both == pytest.approx(kept.held_back_share, rel=1e-6)
        assert (adapter.dropped_share > 0.01) == (limit == 1.0)


def test_factors_beyond_float16_are_its_largest_number_and_the_sum_keeps_the_rest() -> None:
    huge = UpdateSum(content=LowRank(b=torch.full((3, 1), 1e6), a=torch.full((1, 2), 1e6)))
    head = head_of({"q": huge}, Aggregation(mean_rank=1), near={})["q"]
    assert bool(head.b.isfinite().all()) and bool(head.a.isfinite().all())
    assert head.b.abs().max() == torch.finfo(torch.float16).max
    adapter = bounded({"q": huge}, Aggregation(mean_rank=1), near={})
    assert 0.9 < adapter.held_back_share <= 1.0


def test_where_nothing_was_learnt_nothing_is_sent_or_held_back() -> None:
    sums = random_sums(dict.fromkeys(SHAPES, 0), 0)
    head = head_of(sums, Aggregation(), near={})
    assert {name: update.rank for name, update in head.items()} == dict.fromkeys(SHAPES, 0)
    adapter = bounded(sums, Aggregation(drop_below=1.0), near={})
    assert (adapter.held_back_share, adapter.dropped_share) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (Aggregation(), 32),
        (Aggregation(mean_rank=8), 32),
        (Aggregation(mean_rank=64), 64),
        (Aggregation(rank_cap=16), 16),
        (Aggregation(rank_cap=0), None),
    ],
    ids=str,
)
def test_a_cap_that_is_said_is_kept_and_else_has_room_for_the_mean(
    options: Aggregation, wanted: int | None
) -> None:
    assert options.largest_rank == wanted
