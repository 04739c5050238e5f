"""The penalty on a pair's tail and its gradient, against the formula, and what is pruned."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.adapters import LowRank, SelfPruning, Trainable
from hsplit_flower.errors import ConfigError
from hsplit_flower.types import Scaling
from tests.reference.methods import tail_norms


def trainable(rank: int, draws: torch.Generator) -> Trainable:
    return Trainable(
        b=torch.nn.Parameter(torch.randn(5, rank, generator=draws)),
        a=torch.nn.Parameter(torch.randn(rank, 7, generator=draws)),
    )


@settings(deadline=None)
@given(
    ranks=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    decay=st.sampled_from([0.5, 0.75, 0.99]),
    penalty=st.sampled_from([0.0, 1e-3, 2.0]),
    seed=st.integers(0, 2**32),
)
def test_the_penalty_is_the_sum_of_the_tails_effective_norms(
    ranks: list[int], decay: float, penalty: float, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    pruning, scaling = SelfPruning(decay=decay, penalty=penalty), Scaling(alpha=8.0)
    own = {str(i): trainable(rank, draws) for i, rank in enumerate(ranks)}
    wanted = penalty * tail_norms(
        [(8.0 / t.rank * t.b.detach().double(), t.a.detach().double()) for t in own.values()],
        [math.floor(decay * rank) for rank in ranks],
    )
    got = float(pruning.penalty_of(own, scaling).detach())
    assert got == pytest.approx(wanted, rel=1e-5, abs=1e-12)


def test_only_the_tail_is_pulled_at_and_a_tail_of_zeros_stands_still() -> None:
    own = trainable(4, torch.Generator().manual_seed(0))
    pruning = SelfPruning(penalty=1.0)
    pruning.penalty_of({"w": own}, Scaling()).backward()
    assert own.b.grad is not None
    assert own.a.grad is not None
    assert not own.b.grad[:, :3].any()
    assert own.b.grad[:, 3:].all()
    fresh = Trainable(b=torch.nn.Parameter(torch.zeros(5, 4)), a=torch.nn.Parameter(own.a.detach()))
    pruning.penalty_of({"w": fresh}, Scaling()).backward()
    assert fresh.b.grad is not None
    assert not fresh.b.grad.any(), "no NaN where a norm is zero"


@pytest.mark.parametrize(
    ("rank", "wanted"), [(1, 1), (2, 1), (8, 7), (100, 99), (101, 99), (200, 198)]
)
def test_a_client_that_prunes_keeps_its_share_of_the_rank(rank: int, wanted: int) -> None:
    assert SelfPruning().pruned(rank) == wanted


def test_nobody_is_pruned_below_the_least_rank_or_raised_to_it() -> None:
    pruning = SelfPruning(decay=0.5, least_rank=4)
    assert [pruning.pruned(rank) for rank in (2, 4, 6, 10)] == [2, 4, 4, 5]


def test_the_tail_of_a_shorter_pair_is_what_there_is_of_it() -> None:
    pair = LowRank(b=torch.ones(3, 2), a=torch.ones(2, 4))
    assert SelfPruning(decay=0.5).tail_norm(pair, 2) == pytest.approx(math.sqrt(3 * 4))
    assert SelfPruning(decay=0.5).tail_norm(pair, 6) == 0.0


@pytest.mark.parametrize(
    "wrong", [{"decay": 1.0}, {"decay": 0.0}, {"penalty": -1.0}, {"least_rank": 0}], ids=str
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SelfPruning(**wrong)  # type: ignore[arg-type]
