"""Fleets from TOML files: what they say, and what is refused."""

import math
import os
from pathlib import Path

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.simulation import fleet_devices, fleet_profiles, fleet_size, worker_profile
from hsplit_flower.types import DeviceProfile

GOOD = """
[[device]]
name = "ward 3"
memory-gb = 8
flops = 5e12
up-mbps = 80
down-mbps = 160
rtt-ms = 20
unavailable = 0.1

[[device]]
count = 2
memory-gb = 0.5
flops = 1_000_000_000
up-mbps = inf

[worker]
memory-gb = 80
flops = 1e14
"""
WRONG = """
[[device]]
memory-gb = -8
flops = nan
speed = 3

[[device]]
memory-gb = "8"
unavailable = 1.5
count = 0

[[device]]
memory-gb = 8e9
flops = 5
up-mbps = 0
rtt-ms = -1
name = 7

[worker]
flops = 0
rtt-ms = 5

[server]
"""
OWN = DeviceProfile(memory_bytes=1e11, flops_per_second=1.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clinic.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def read(path: Path, num_devices: int = 1) -> list[DeviceProfile]:
    return fleet_profiles(str(path), num_devices=num_devices, whole_model_bytes=1e9)


def test_all_that_a_file_says(file: Path) -> None:
    first, second, third = fleet_devices(str(file), num_devices=3, whole_model_bytes=1e9)
    assert first.name == "ward 3"
    assert first.unavailable == 0.1
    assert first.profile == DeviceProfile(
        memory_bytes=8e9,
        flops_per_second=5e12,
        up_bytes_per_second=1e7,
        down_bytes_per_second=2e7,
        round_trip_seconds=0.02,
    )
    assert second == third
    assert second.unavailable == 0.0
    assert second.profile == DeviceProfile(memory_bytes=5e8, flops_per_second=1e9)
    assert second.profile.down_bytes_per_second == math.inf
    assert fleet_size(str(file)) == 3
    assert read(file, 2) == [first.profile, second.profile]


def test_the_worker_of_a_file(file: Path, tmp_path: Path) -> None:
    worker = worker_profile(str(file), OWN)
    assert worker == DeviceProfile(memory_bytes=8e10, flops_per_second=1e14)
    small = DeviceProfile(memory_bytes=1e9, flops_per_second=1.0)
    assert worker_profile(str(file), small).memory_bytes == 1e9
    alone = tmp_path / "alone.toml"
    alone.write_text(GOOD.partition("[worker]")[0], encoding="utf-8")
    assert worker_profile(str(alone), OWN) == DeviceProfile(
        memory_bytes=1e11, flops_per_second=1.5e13
    )


def test_too_few_devices(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"clinic.toml' has 3 devices, 4 are wanted"):
        read(file, 4)


def test_a_file_that_changed_is_read_again(file: Path) -> None:
    assert read(file)[0].memory_bytes == 8e9
    file.write_text(GOOD.replace("memory-gb = 8\n", "memory-gb = 4\n"), encoding="utf-8")
    os.utime(file, ns=(0, 0))
    assert read(file)[0].memory_bytes == 4e9


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(WRONG, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read(path)
    text = str(caught.value)
    assert "has 15 problems" in text
    for problem in (
        "device 0: memory-gb is -8, a positive number",
        "device 0: flops is nan, a positive number",
        "device 0: unknown key 'speed', wanted some of memory-gb, flops, up-mbps",
        "device 1: memory-gb is '8', a positive number is wanted (without quotes)",
        "device 1: flops is missing",
        "device 1: unavailable is 1.5",
        "device 1: count is 0",
        "device 2: memory-gb is 8e+09, no device has that",
        "device 2: flops is 5, no device has that",
        "device 2: up-mbps is 0, a positive number",
        "device 2: rtt-ms is -1, a number of zero or more",
        "device 2: name is 7",
        "worker: flops is 0",
        "worker: unknown key 'rtt-ms'",
        "the file has an unknown key 'server'",
    ):
        assert problem in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", r"it has no \[\[device\]\] table"),
        ("[device]\nmemory-gb = 1", r"device is one table.*\[\[device\]\]"),
        ("device = [3]", "device 0 is 3"),
        ("worker = 3\n[[device]]\nmemory-gb = 1\nflops = 1e9", "worker is 3"),
        ("memory-gb = ", "is not TOML"),
    ],
)
def test_what_is_no_fleet_is_refused(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml' cannot be read .*\[\[device\]\]"):
        read(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        worker_profile(str(tmp_path / "nowhere.toml"), OWN)
