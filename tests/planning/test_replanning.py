"""Drift of importance, changes of the fleet, and the decision to plan again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.errors import ConfigError
from hsplit_flower.planning import FleetChanges, drift, fleet_changes, should_replan
from hsplit_flower.settings import Planning
from hsplit_flower.types import ClientPlan, DeviceProfile, MemoryParts, Plan, Shortfall, Span

scores = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.0, 1e6), min_size=1)
QUIET = FleetChanges()
TWO = Planning(cooldown_rounds=2)


@given(scores, scores)
def test_drift_is_a_distance_between_shares(one: dict[str, float], other: dict[str, float]) -> None:
    distance = drift(one, other)
    assert -1e-12 <= distance <= 1.0 + 1e-12
    assert distance == pytest.approx(drift(other, one), abs=1e-12)
    assert drift(one, one) == 0.0


@given(scores, st.floats(0.01, 1000.0))
def test_drift_looks_at_shares_only(one: dict[str, float], scale: float) -> None:
    assert drift({k: scale * v for k, v in one.items()}, one) == pytest.approx(0.0, abs=1e-9)


def test_drift_by_hand() -> None:
    assert drift({"a": 3.0, "b": 1.0}, {"a": 1.0, "b": 1.0}) == pytest.approx(0.25)
    assert drift({"a": 1.0}, {"b": 1.0}) == 1.0
    assert drift({"a": 3.0, "b": 1.0}, None) == pytest.approx(0.25)
    assert drift({}, None) == 0.0


def decide(**kwargs: object) -> tuple[bool, str]:
    known = {"drift": 0.0, "changes": QUIET, "rounds_since_plan": 10, "improvement": 1.0}
    decision = should_replan(**{**known, **kwargs})  # type: ignore[arg-type]
    return decision.replan, decision.reason


@pytest.mark.parametrize(
    ("situation", "replan", "says"),
    [
        ({"drift": 0.11}, True, "drifted by 0.110 > 0.1"),
        ({"drift": 0.1}, False, "drifted by 0.100 <= 0.1, no client changed"),
        (
            {"drift": 0.5, "rounds_since_plan": 1, "settings": TWO},
            False,
            "1 rounds old and stands for 2",
        ),
        ({"drift": 0.5, "rounds_since_plan": 2, "settings": TWO}, True, "drifted"),
        ({"drift": 0.5, "rounds_since_plan": 0}, False, "0 rounds old and stands for 1"),
        ({"drift": 0.5, "rounds_since_plan": 1}, True, "drifted"),
        ({"drift": 0.5, "improvement": 0.001}, False, "promises +0.1%, less than 0.2%"),
        ({"drift": 0.5, "improvement": -0.3}, False, "promises -30.0%"),
        ({"drift": 0.5, "improvement": None}, True, "drifted"),
        ({"changes": FleetChanges(changed=frozenset({4}))}, True, "client 4 changed"),
        ({"changes": FleetChanges(left=frozenset({2, 1}))}, True, "clients 1, 2 left"),
        (
            {"changes": FleetChanges(changed=frozenset({4})), "rounds_since_plan": 0},
            False,
            "client 4 changed, but",
        ),
        (
            {
                "changes": FleetChanges(unserved=frozenset({7})),
                "rounds_since_plan": 0,
                "improvement": -0.5,
            },
            True,
            "the standing plan has nothing that fits client 7",
        ),
    ],
)
def test_decision(situation: dict[str, object], replan: bool, says: str) -> None:
    decided, reason = decide(**situation)
    assert decided is replan
    assert says in reason


def test_thresholds_are_settings() -> None:
    eager = Planning(drift_threshold=0.0, cooldown_rounds=0, margin=0.0)
    assert decide(drift=0.01, rounds_since_plan=0, improvement=0.0, settings=eager)[0]
    with pytest.raises(ConfigError, match=r"(?s)drift_threshold.*2\.0.*cooldown_rounds.*margin"):
        Planning(drift_threshold=2.0, cooldown_rounds=-1, margin=1.0)


def profile(memory_bytes: float) -> DeviceProfile:
    return DeviceProfile(memory_bytes=memory_bytes, flops_per_second=1.0)


def test_fleet_changes_tell_who_the_plan_cannot_serve() -> None:
    part = ClientPlan(span=Span(start=0, stop=1), ranks={}, memory=MemoryParts(weights_bytes=100.0))
    plan = Plan(
        clients={0: part, 1: part, 2: part},
        left_out={3: Shortfall(needed_bytes=90.0, budget_bytes=50.0)},
    )
    before = {0: profile(150), 1: profile(150), 2: profile(150), 3: profile(50)}
    now = {0: profile(99), 1: profile(120), 3: profile(50), 4: profile(500)}
    changes = fleet_changes(plan, before, now)
    assert changes == FleetChanges(
        unserved=frozenset({0, 4}), changed=frozenset({1}), left=frozenset({2})
    )
    assert changes
    assert not fleet_changes(plan, before, before)


def test_who_was_left_out_is_served_again_as_soon_as_it_fits() -> None:
    part = ClientPlan(span=Span(start=0, stop=1), ranks={}, memory=MemoryParts(weights_bytes=100.0))
    plan = Plan(clients={0: part}, left_out={3: Shortfall(needed_bytes=90.0, budget_bytes=50.0)})
    before = {0: profile(150), 3: profile(50)}
    assert not fleet_changes(plan, before, before | {3: profile(89)}), "still too small"
    changes = fleet_changes(plan, before, before | {3: profile(90)})
    assert changes == FleetChanges(unserved=frozenset({3}))


def test_a_plan_that_outgrows_a_device_no_longer_serves_it() -> None:
    part = ClientPlan(span=Span(start=0, stop=1), ranks={}, memory=MemoryParts(weights_bytes=100.0))
    there = {0: profile(150), 1: profile(150)}
    plan = Plan(clients={0: part, 1: part})
    changes = fleet_changes(plan, there, there, needed_bytes={0: 149.0, 1: 151.0})
    assert changes == FleetChanges(unserved=frozenset({1}))
