"""What the strategy learns from a client that ran out of its budget."""

import pytest

from hsplit_flower.errors import OutOfBudgetError
from hsplit_flower.strategies.corrections import LEAST_STEP, Corrections
from hsplit_flower.types import DeviceProfile


def _error(predicted: float, measured: float, budget: float = 100.0) -> OutOfBudgetError:
    return OutOfBudgetError(predicted_bytes=predicted, measured_bytes=measured, budget_bytes=budget)


def test_a_client_that_never_failed_is_planned_for_all_of_its_memory() -> None:
    profiles = {1: DeviceProfile(memory_bytes=100.0, flops_per_second=1.0)}
    assert Corrections().applied(profiles) == profiles


def test_the_factor_is_what_was_needed_over_what_was_predicted() -> None:
    corrections = Corrections()
    assert corrections.learn(1, _error(80.0, 120.0)) == pytest.approx(1.5)
    assert corrections.of(2) == 1.0
    profile = DeviceProfile(memory_bytes=90.0, flops_per_second=1.0)
    applied = corrections.applied({1: profile, 2: profile})
    assert applied[1].memory_bytes == pytest.approx(60.0)
    assert applied[2] == profile


def test_at_least_the_budget_was_needed() -> None:
    # The allocator's limit can hit before what tensors hold has reached the budget.
    assert Corrections().learn(1, _error(50.0, 90.0)) == pytest.approx(2.0)


@pytest.mark.parametrize("predicted", [99.0, 200.0, 0.0])
def test_every_failure_plans_lower(predicted: float) -> None:
    corrections = Corrections()
    factors = [corrections.learn(1, _error(predicted, 100.5)) for _ in range(3)]
    assert factors[0] >= LEAST_STEP
    assert factors[1] >= LEAST_STEP * factors[0]
    assert factors[2] >= LEAST_STEP * factors[1]


def test_who_always_needs_twice_its_prediction_is_soon_within_budget() -> None:
    corrections, budget_bytes, failures = Corrections(), 100.0, 0
    # The plan fills what it is given; the client is stopped just above its budget.
    while 2.0 * (planned := budget_bytes / corrections.of(1)) > budget_bytes:
        corrections.learn(1, _error(planned, budget_bytes + 0.1))
        failures += 1
        assert failures < 10
    assert corrections.of(1) < 2.0 * LEAST_STEP
