"""Fleets by name and by list, and what they make of a plan."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, PretrainedConfig

from hsplit_flower.costs import Workload, trace_costs, whole_model_memory
from hsplit_flower.errors import ConfigError
from hsplit_flower.planning import plan, session_need_bytes
from hsplit_flower.settings import PlanSettings
from hsplit_flower.simulation import (
    Device,
    fleet_devices,
    fleet_profiles,
    fleet_size,
    worker_profile,
)
from hsplit_flower.simulation.presets import PRESETS
from hsplit_flower.types import DeviceProfile
from tests.families import FAMILIES

WHOLE = 8e9


def memories(fleet: str, num_devices: int) -> list[float]:
    profiles = fleet_profiles(fleet, num_devices=num_devices, whole_model_bytes=WHOLE)
    return [profile.memory_bytes for profile in profiles]


def test_homogeneous_devices_are_all_alike() -> None:
    profiles = fleet_profiles("homogeneous", num_devices=4, whole_model_bytes=WHOLE)
    assert len(set(profiles)) == 1
    assert profiles[0].memory_bytes == pytest.approx(0.6 * WHOLE)


def test_heterogeneous_devices_are_spread_from_a_quarter_to_all() -> None:
    wanted = [0.25 * WHOLE, 0.4375 * WHOLE, 0.625 * WHOLE, 0.8125 * WHOLE, WHOLE]
    assert memories("Heterogeneous", 5) == pytest.approx(wanted)
    assert memories("heterogeneous", 1) == pytest.approx([0.25 * WHOLE])


def test_heterogeneous_speeds_and_links_differ() -> None:
    profiles = fleet_profiles("heterogeneous", num_devices=5, whole_model_bytes=WHOLE)
    assert len({profile.flops_per_second for profile in profiles}) == 5
    assert len({profile.up_bytes_per_second for profile in profiles}) == 5
    assert profiles[4].flops_per_second == pytest.approx(4 * profiles[0].flops_per_second)


@given(st.integers(0, 50), st.integers(1, 20))
def test_a_seed_gives_the_same_fleet_again(seed: int, num_devices: int) -> None:
    one, other = (
        fleet_profiles("heterogeneous", num_devices=num_devices, whole_model_bytes=WHOLE, seed=seed)
        for _ in range(2)
    )
    assert one == other
    next_one = fleet_profiles(
        "heterogeneous", num_devices=num_devices, whole_model_bytes=WHOLE, seed=seed + 1
    )
    assert [p.memory_bytes for p in next_one] == [p.memory_bytes for p in one]
    assert num_devices == 1 or next_one != one


def test_lists_of_shares_and_sizes() -> None:
    assert memories("0.25, 0.4,0.6", 3) == pytest.approx([2e9, 3.2e9, 4.8e9])
    assert memories("4GB,600MB,1GiB", 3) == pytest.approx([4e9, 6e8, 2**30])
    assert memories("0.5,4 gb", 2) == pytest.approx([4e9, 4e9])
    assert memories("1e-1", 1) == pytest.approx([8e8])


@pytest.mark.parametrize(
    ("fleet", "says"),
    [
        ("hetero", "neither a preset .*heterogeneous.* nor a list"),
        ("", "item 0: ''"),
        ("0.5,,0.5", "item 1: ''"),
        ("0.5,-0.5,0.5", "item 1: '-0.5' is not a positive"),
        ("0,0.5,0.5", "item 0: '0' is not a positive"),
        ("nan,0.5,inf", "item 0: 'nan'.*item 2: 'inf'"),
        ("0.5,4,0.5", "item 1: 4 is a share.*4GB if gigabytes are meant"),
        ("1e-7,0.5,0.5", "item 0: 1e-7 is a share.*at least 1e-06"),
        ("1e300GB,0.5,1e308TB", r"item 0: 1e300GB in GB is 1e\+300, no device has.*item 2: .* inf"),
        ("0.5,1e-9GB,5KB", "item 1: 1e-9GB .*1e-05 to 100000 is wanted; is .*unit.*item 2: 5KB"),
        ("4GB,5XB,6GB", "item 1: '5XB' has an unknown unit, wanted one of KB, MB, GB"),
        ("1.2.3,0.5,0.5", "item 0"),
        ("0.5,0.5", "lists 2 devices, 3 are wanted"),
    ],
)
def test_bad_fleets_are_refused(fleet: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        memories(fleet, 3)


def test_no_devices_is_no_fleet() -> None:
    with pytest.raises(ConfigError, match="num_devices = 0"):
        memories("homogeneous", 0)


def test_worker_keeps_its_memory_and_is_as_fast_as_several_devices() -> None:
    own = DeviceProfile(memory_bytes=3e9, flops_per_second=1.0)
    worker = worker_profile("heterogeneous", own)
    fastest = fleet_profiles("heterogeneous", num_devices=5, whole_model_bytes=WHOLE)[-1]
    assert worker.memory_bytes == 3e9
    assert worker.flops_per_second == pytest.approx(3 * fastest.flops_per_second)
    with pytest.raises(ConfigError, match="item 1"):
        worker_profile("0.5,many", own)


def test_the_papers_clients_have_five_to_twenty_gigabytes() -> None:
    many = memories("paper-llama2-7b", 400)
    assert 5e9 <= min(many) < 5.5e9
    assert 19.5e9 < max(many) <= 20e9
    assert sum(many) / 400 == pytest.approx(12.5e9, rel=0.05)
    assert fleet_size("paper-llama2-7b") == 5
    assert memories("paper-llama2-7b", 5) == many[:5]
    other = fleet_profiles("paper-llama2-7b", num_devices=5, whole_model_bytes=WHOLE, seed=1)
    assert [profile.memory_bytes for profile in other] != many[:5]


def test_real_devices_come_in_turn() -> None:
    number = fleet_size("jetson-and-laptops")
    devices = fleet_devices(
        "jetson-and-laptops", num_devices=2 * number, whole_model_bytes=WHOLE, seed=3
    )
    assert devices[:number] == devices[number:]
    assert len({device.name for device in devices}) == number
    nano = devices[0]
    assert nano.name == "Jetson Orin Nano 8GB"
    # 1024 cores at 625 MHz, two operations each; 2 of the 8 GB are the system's.
    assert nano.profile.flops_per_second == pytest.approx(1.28e12)
    assert nano.profile.memory_bytes == pytest.approx(6e9)
    fastest = max(device.profile.flops_per_second for device in devices)
    own = DeviceProfile(memory_bytes=3e9, flops_per_second=1.0)
    assert worker_profile("jetson-and-laptops", own).flops_per_second > 2 * fastest


def test_a_fleet_says_how_many_it_has() -> None:
    assert fleet_size("heterogeneous") == 5
    assert fleet_size("4GB,600MB,0.5") == 3
    with pytest.raises(ConfigError, match="neither a preset"):
        fleet_size("heterogenous")


@pytest.mark.parametrize("fleet", [*PRESETS, "0.5,1", "4GB,600MB"])
def test_devices_of_presets_and_lists_are_always_there(fleet: str) -> None:
    devices = fleet_devices(fleet, num_devices=fleet_size(fleet), whole_model_bytes=1e9)
    assert not any(device.unavailable for device in devices)


@pytest.mark.parametrize("unavailable", [-0.1, 1.0, float("nan")])
def test_unavailable_is_a_probability(unavailable: float) -> None:
    profile = DeviceProfile(memory_bytes=1.0, flops_per_second=1.0)
    with pytest.raises(ValueError, match="unavailable"):
        Device(profile=profile, unavailable=unavailable)


def check_variety(config: PretrainedConfig) -> None:
    """At least two cuts and three ranks are in use, before and after importance is known."""
    workload = Workload(batch_size=16, sequence_length=96, attention="eager")
    costs = trace_costs(config, workload)
    whole = whole_model_memory(costs, rank=16).total_bytes
    profiles = dict(
        enumerate(fleet_profiles("heterogeneous", num_devices=5, whole_model_bytes=whole))
    )
    worker = worker_profile("heterogeneous", DeviceProfile(memory_bytes=8e9, flops_per_second=1.0))
    settings = PlanSettings(worker_session_bytes=session_need_bytes(costs, rank=2))
    unequal = {weight.name: 1.0 + index % 7 for index, weight in enumerate(costs.weights)}
    for importance in (None, unequal):
        made = plan(costs, profiles, worker, importance=importance, settings=settings)
        assert not made.left_out
        assert len({part.cut for part in made.clients.values()}) >= 2
        assert len({rank for part in made.clients.values() for rank in part.ranks.values()}) >= 3
        # The weaker a client is, the fewer ranks it can have.
        sums = [sum(made.clients[client].ranks.values()) for client in range(5)]
        assert sums == sorted(sums)
        assert sums[0] < sums[-1]


def test_a_heterogeneous_fleet_exercises_the_built_in_base(llama_tiny: Path) -> None:
    check_variety(AutoConfig.from_pretrained(llama_tiny))


def test_a_heterogeneous_fleet_exercises_a_tiny_gpt2() -> None:
    config = FAMILIES["gpt2"].config()
    config.update({"n_embd": 128, "n_layer": 8, "vocab_size": 2048, "n_positions": 256})
    check_variety(config)
