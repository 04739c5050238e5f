"""What the strategy learns from a client that ran out of its budget."""

import pytest

from hsplit_flower.errors import OutOfBudgetError
from hsplit_flower.server.memory_corrections import LEAST_STEP, MemoryCorrections
from hsplit_flower.types import DeviceProfile


def _error(predicted: float, measured: float, budget: float = 100.0) -> OutOfBudgetError:
    return OutOfBudgetError(predicted_bytes=predicted, measured_bytes=measured, budget_bytes=budget)


def test_a_client_that_never_failed_is_planned_for_all_of_its_memory() -> None:
    profiles = {1: DeviceProfile(memory_bytes=100.0, flops_per_second=1.0)}
    assert MemoryCorrections().applied(profiles) == profiles


def test_the_factor_is_what_was_needed_over_what_was_predicted() -> None:
    corrections = MemoryCorrections().learned(1, _error(80.0, 120.0))
    assert corrections.of(1) == pytest.approx(1.5)
    assert corrections.of(2) == 1.0
    profile = DeviceProfile(memory_bytes=90.0, flops_per_second=1.0)
    applied = corrections.applied({1: profile, 2: profile})
    assert applied[1].memory_bytes == pytest.approx(60.0)
    assert applied[2] == profile


def test_at_least_the_budget_was_needed() -> None:
    # The allocator's limit can hit before what tensors hold has reached the budget.
    assert MemoryCorrections().learned(1, _error(50.0, 90.0)).of(1) == pytest.approx(2.0)


@pytest.mark.parametrize("predicted", [99.0, 200.0, 0.0])
def test_every_failure_plans_lower(predicted: float) -> None:
    corrections, factors = MemoryCorrections(), []
    for _ in range(3):
        corrections = corrections.learned(1, _error(predicted, 100.5))
        factors.append(corrections.of(1))
    assert factors[0] >= LEAST_STEP
    assert factors[1] >= LEAST_STEP * factors[0]
    assert factors[2] >= LEAST_STEP * factors[1]


def test_who_always_needs_twice_its_prediction_is_soon_within_budget() -> None:
    corrections, budget_bytes, failures = MemoryCorrections(), 100.0, 0
    # The plan fills what it is given; the client is stopped just above its budget.
    while 2.0 * (planned := budget_bytes / corrections.of(1)) > budget_bytes:
        corrections = corrections.learned(1, _error(planned, budget_bytes + 0.1))
        failures += 1
        assert failures < 10
    assert corrections.of(1) < 2.0 * LEAST_STEP


def _failed_once(before: MemoryCorrections | None = None) -> MemoryCorrections:
    return (before or MemoryCorrections()).learned(1, _error(80.0, 120.0))


def _relaxed(before: MemoryCorrections, *, peak: float) -> tuple[MemoryCorrections, bool]:
    """After a round, and whether it has made the client free."""
    after = before.relaxed(1, predicted_bytes=60.0, peak_bytes=peak)
    return after, after.of(1) < before.of(1)


def test_a_correction_is_taken_back_after_two_rounds_well_inside() -> None:
    corrections = _failed_once()
    corrections, is_free = _relaxed(corrections, peak=40.0)
    assert not is_free
    assert corrections.of(1) == pytest.approx(1.5)
    corrections, is_free = _relaxed(corrections, peak=40.0)
    assert is_free
    assert corrections.of(1) == 1.0
    assert _relaxed(corrections, peak=40.0) == (corrections, False), "it is free already"


@pytest.mark.parametrize("peak", [0.0, 57.0, 60.0, 70.0])
def test_who_was_not_measured_or_needs_what_was_predicted_stays_corrected(peak: float) -> None:
    corrections = _failed_once()
    for _ in range(50):
        corrections, is_free = _relaxed(corrections, peak=peak)
        assert not is_free
    assert corrections.of(1) == pytest.approx(1.5)


def test_only_rounds_in_a_row_count() -> None:
    corrections = _failed_once()
    for _ in range(20):
        for peak in (40.0, 59.0):
            corrections, is_free = _relaxed(corrections, peak=peak)
            assert not is_free


NEEDED = 100.0


def _waits(
    corrections: MemoryCorrections, *, own: float, measured: float, failures: int
) -> list[int]:
    """Rounds that a client waits after each failure that always needs as much at the smallest cut.

    It is left out whenever its corrected memory does not hold what the smallest cut needs.
    """
    waits: list[int] = []
    while len(waits) < failures:
        waits.append(0)
        corrections = corrections.learned(1, _error(NEEDED, measured, own))
        while own / corrections.of(1) < NEEDED:
            corrections = corrections.faded([1])
            waits[-1] += 1
    return waits


def test_who_is_left_out_for_its_correction_is_tried_again_and_waits_longer_each_time() -> None:
    assert _waits(MemoryCorrections(), own=115.0, measured=130.0, failures=5) == [3, 6, 11, 21, 42]


@pytest.mark.parametrize("own", [100.0, 101.0, 109.0, 130.0, 199.0])
@pytest.mark.parametrize("excess", [1.001, 1.05, 1.5])
def test_nobody_waits_for_ever_and_nobody_is_spared(own: float, excess: float) -> None:
    waits = _waits(MemoryCorrections(), own=own, measured=excess * own, failures=8)
    left_out = [wait for wait in waits if wait]
    assert left_out == sorted(set(left_out)), "longer each time"
    assert waits[-1] > 50
    assert waits[0] <= 16


def test_a_correction_fades_to_nothing_and_no_further() -> None:
    corrections = _failed_once()
    for _ in range(20):
        corrections = corrections.faded([1, 2])
    assert corrections.of(1) == corrections.of(2) == 1.0


def test_who_fails_at_every_deep_cut_fails_ever_more_rarely() -> None:
    corrections, failures = MemoryCorrections(), []
    for server_round in range(200):
        if corrections.of(1) == 1.0:
            corrections = _failed_once(corrections)
            failures.append(server_round)
        else:
            corrections, _ = _relaxed(corrections, peak=40.0)
    assert failures == [0, 3, 8, 17, 34, 67, 132]
