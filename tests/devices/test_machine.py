"""The profile of the machine that the tests run on."""

import math
from pathlib import Path

import psutil
import pytest
import torch

from hsplit_flower.devices import machine, machine_profile


def test_this_machine() -> None:
    profile = machine_profile("cpu")
    assert 0 < profile.memory_bytes <= psutil.virtual_memory().total
    # A pocket calculator and a data centre would both be wrong.
    assert 1e7 < profile.flops_per_second < 1e16
    assert profile.up_bytes_per_second == math.inf
    assert profile.round_trip_seconds == 0.0


def test_speed_is_measured_once() -> None:
    assert machine_profile("cpu").flops_per_second == machine_profile("cpu").flops_per_second


def test_a_container_limits_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    used.write_text("30000\n")
    monkeypatch.setattr(machine, "CGROUP_LIMIT", limit)
    monkeypatch.setattr(machine, "CGROUP_USE", used)
    device = torch.device("cpu")
    free = machine.available_bytes(device)
    assert free > 100_000
    limit.write_text("100000\n")
    assert machine.available_bytes(device) == 70_000
    limit.write_text("max\n")
    assert machine.available_bytes(device) > 100_000


@pytest.mark.gpu
def test_a_card_is_preferred() -> None:
    profile = machine_profile()
    assert profile.memory_bytes <= torch.cuda.get_device_properties(0).total_memory
    assert profile.flops_per_second > machine_profile("cpu").flops_per_second
