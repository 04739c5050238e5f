"""Who is away when, and whose memory changes: by seed, device and round alone."""

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.simulation.disturbances import BudgetChange, Disturbances, budget_changes


def _pattern(disturbances: Disturbances, devices: int = 20, rounds: int = 100) -> list[bool]:
    return [disturbances.is_available(d, r) for r in range(1, rounds + 1) for d in range(devices)]


def test_devices_are_away_as_often_as_is_said() -> None:
    there = _pattern(Disturbances(unavailable=0.2, seed=3))
    assert sum(there) / len(there) == pytest.approx(0.8, abs=0.03)


def test_the_seed_alone_decides() -> None:
    one, same, other = (_pattern(Disturbances(unavailable=0.5, seed=s)) for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_never_and_always_are_meant() -> None:
    assert all(_pattern(Disturbances()))
    assert not any(_pattern(Disturbances(unavailable=1.0)))


def test_every_device_may_have_its_own_probability() -> None:
    disturbances = Disturbances(unavailable=(0.0, 1.0))
    assert [disturbances.is_available(device, 1) for device in (0, 1)] == [True, False]
    with pytest.raises(ConfigError, match=r"lists 2 devices, there is a device 2"):
        disturbances.is_available(2, 1)


def test_a_device_is_away_for_its_own_reasons_too() -> None:
    disturbances = Disturbances(unavailable=0.2, seed=4)
    draws = [disturbances.is_available(d, r, own=0.5) for r in range(100) for d in range(20)]
    assert sum(draws) / len(draws) == pytest.approx(0.8 * 0.5, abs=0.03)
    # Who is away without reasons of its own is away with them, too.
    without = [disturbances.is_available(d, r) for r in range(100) for d in range(20)]
    assert not any(had and not has for had, has in zip(draws, without, strict=True))
    assert not Disturbances().is_available(0, 1, own=1.0)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), (0.1, 2.0)])
def test_what_is_no_probability_is_refused(wrong: float | tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="probabilities from 0 to 1"):
        Disturbances(unavailable=wrong)


def test_the_last_change_that_has_begun_counts() -> None:
    disturbances = Disturbances(budget_changes=budget_changes("5:0=2, 3:0=0.5,3:2=0.25"))
    factors = [disturbances.memory_factor(0, server_round) for server_round in range(1, 7)]
    assert factors == [1.0, 1.0, 0.5, 0.5, 2.0, 2.0]
    assert disturbances.memory_factor(1, 9) == 1.0
    assert disturbances.memory_factor(2, 9) == 0.25


def test_no_changes_are_an_empty_text() -> None:
    assert budget_changes("") == budget_changes(" , ") == ()
    assert budget_changes("3:2=0.5") == (BudgetChange(device=2, first_round=3, factor=0.5),)


@pytest.mark.parametrize(
    "wrong",
    [
        *("3", "3:2", "3=0.5", "a:b=c", "0:1=0.5", "3:-1=0.5", "3:1=0", "3:1=nan", "3:1=inf"),
        *("3:1=1e300", "3:1=1e-300", "3:1=1001"),
    ],
)
def test_every_item_that_is_no_change_is_named(wrong: str) -> None:
    with pytest.raises(ConfigError, match="budget-changes: ") as caught:
        budget_changes(f"1:1=0.5,{wrong},x")
    assert repr(wrong) in str(caught.value)
    assert "'x'" in str(caught.value)
