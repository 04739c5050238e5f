"""A client's two halves as one reply; whole rounds with bad replies are in test_failing_clients."""

import pytest

from hsplit_flower.errors import HSplitError, NonFiniteError
from hsplit_flower.metrics import TokenLoss
from hsplit_flower.server.client_registry import read_profile
from hsplit_flower.server.replies import TrainReply, join_halves
from hsplit_flower.settings.device import DEVICE_KEYS, profile_fields
from hsplit_flower.wire.factors import SessionResult

BELOW = TrainReply(
    loss=TokenLoss(loss_sum=1.0, num_tokens=2),
    num_steps=3,
    num_batch_tokens=6,
    seconds=1.0,
    importance={"low": 1.0},
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


@pytest.mark.parametrize("end", ["least", "most"])
def test_what_a_node_config_may_say_is_believed(end: str) -> None:
    told = {name: getattr(key, end) for name, key in DEVICE_KEYS.items()}
    values, problems = profile_fields(told)
    assert not problems
    description = {name.replace("_", "-"): value for name, value in values.items()}
    assert vars(read_profile(description)) == values


def test_who_has_nothing_free_for_the_moment_is_no_liar() -> None:
    profile = {"memory-bytes": 1.0, "flops-per-second": 1e9, "round-trip-seconds": 0.0}
    links = dict.fromkeys(("up-bytes-per-second", "down-bytes-per-second"), float("inf"))
    assert read_profile(profile | links).memory_bytes == 1.0
