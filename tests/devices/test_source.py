"""Devices as they say of themselves, and what is looked at of those that are away."""

import pytest

from hsplit_flower.devices.source import DevicesNow, DeviceSource, ReportedDevices
from hsplit_flower.errors import ConfigError
from hsplit_flower.types import ClientInfo, DeviceProfile

OWN = DeviceProfile(memory_bytes=1e9, flops_per_second=1e9)
OTHER = DeviceProfile(memory_bytes=2e9, flops_per_second=1e9)
CLIENTS = {
    7: ClientInfo(profile=OWN, num_examples=3),
    5: ClientInfo(profile=OTHER, num_examples=4, partition=0, num_partitions=2),
}


def test_devices_have_what_they_say() -> None:
    source: DeviceSource = ReportedDevices()
    assert source.takes_reports, "they may say something else the next time"
    assert source.in_round(CLIENTS, 1) == DevicesNow(profiles={7: OWN, 5: OTHER})
    assert source.in_round({}, 1) == DevicesNow()
    assert source.worker(OWN) is OWN


def test_a_device_whose_node_is_connected_is_there() -> None:
    source = ReportedDevices()
    assert all(source.in_round(CLIENTS, number).away == frozenset() for number in range(1, 50))


def test_nothing_is_known_of_them_before_a_run() -> None:
    ReportedDevices().check(1000, None)


def test_parts_of_cards_are_leased_by_simulated_devices_only() -> None:
    with pytest.raises(ConfigError, match=r"leased by the devices of a simulated fleet.*name a"):
        ReportedDevices().check(2, 1e9)


def test_who_is_away_is_not_present() -> None:
    now = DevicesNow(profiles={1: OWN, 2: OTHER}, away=frozenset({2, 3}))
    assert now.present == {1: OWN}
