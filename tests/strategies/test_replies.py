"""A client's two halves as one reply; whole rounds with bad replies are in test_failing_clients."""

import pytest

from hsplit_flower.errors import HSplitError, NonFiniteError
from hsplit_flower.metrics import TokenLoss
from hsplit_flower.strategies.replies import TrainReply, join_halves
from hsplit_flower.transport.factors import SessionResult

BELOW = TrainReply(
    loss=TokenLoss(loss_sum=1.0, num_tokens=2), num_steps=3, seconds=1.0, importance={"low": 1.0}
)


def above(*, num_steps: int = 3, score: float = 2.0) -> SessionResult:
    return SessionResult(num_steps=num_steps, updates={}, importance={"high": score})


def test_importance_is_of_both_sides() -> None:
    assert join_halves(BELOW, above()).importance == {"low": 1.0, "high": 2.0}


def test_halves_of_different_steps_do_not_belong_together() -> None:
    with pytest.raises(HSplitError, match="it took 3 steps, its session on the worker 2"):
        join_halves(BELOW, above(num_steps=2))


@pytest.mark.parametrize("score", [float("nan"), 1e308])
def test_what_a_client_made_the_worker_score_is_checked_too(score: float) -> None:
    with pytest.raises(NonFiniteError, match="importance of 'high'"):
        join_halves(BELOW, above(score=score))
