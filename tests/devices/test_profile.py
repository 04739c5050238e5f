"""Profiles from node configs."""

import math

import pytest

from hsplit_flower.devices import memory_limit_bytes, profile_from_node_config
from hsplit_flower.errors import ConfigError
from hsplit_flower.types import DeviceProfile

DEFAULT = DeviceProfile(memory_bytes=1e9, flops_per_second=2e9)


def test_all_keys() -> None:
    config = {
        "memory-gb": 4,
        "flops": 1e12,
        "up-mbps": 80.0,
        "down-mbps": 160,
        "rtt-ms": 25,
        "partition-id": 3,
        "owner": "a hospital",
    }
    assert profile_from_node_config(config, DEFAULT) == DeviceProfile(
        memory_bytes=4e9,
        flops_per_second=1e12,
        up_bytes_per_second=1e7,
        down_bytes_per_second=2e7,
        round_trip_seconds=0.025,
    )


def test_what_is_not_said_is_the_default() -> None:
    assert profile_from_node_config({}, DEFAULT) == DEFAULT
    some = profile_from_node_config({"memory-gb": 0.5, "rtt-ms": 0}, DEFAULT)
    assert some.memory_bytes == 5e8
    assert some.flops_per_second == DEFAULT.flops_per_second
    assert some.up_bytes_per_second == math.inf


@pytest.mark.parametrize("value", [0, -4, math.nan, math.inf, "4", True, "four"])
def test_memory_must_be_a_positive_number(value: bool | float | str) -> None:
    with pytest.raises(ConfigError, match=r"memory-gb is .*positive number is wanted"):
        profile_from_node_config({"memory-gb": value}, DEFAULT)


def test_what_a_node_does_not_grant_it_does_not_limit() -> None:
    assert memory_limit_bytes({"memory-gb": 0.5, "flops": 1e9}) == 5e8
    assert memory_limit_bytes({"flops": 1e9}) == math.inf


def test_an_unlimited_link_may_be_said() -> None:
    assert profile_from_node_config({"up-mbps": math.inf}, DEFAULT) == DEFAULT


@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_round_trip_must_be_zero_or_more(value: float) -> None:
    with pytest.raises(ConfigError, match=r"rtt-ms is .*zero or more"):
        profile_from_node_config({"rtt-ms": value}, DEFAULT)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        profile_from_node_config({"memory-gb": -1, "flops": "fast", "up-mbps": 10}, DEFAULT)
    assert "memory-gb is -1" in str(caught.value)
    assert "flops is 'fast'" in str(caught.value)
    assert "up-mbps" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"), [("flops", 5), ("memory-gb", 8e9), ("up-mbps", 1e-9), ("rtt-ms", 1e9)]
)
def test_what_no_device_has_is_taken_for_another_unit(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{key} is .* no device has that"):
        profile_from_node_config({key: value}, DEFAULT)
