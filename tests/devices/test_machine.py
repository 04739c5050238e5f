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


def test_speed_is_that_of_the_type_that_is_asked_for() -> None:
    """Processors differ by several times between types, and which is faster differs, too."""
    plain, half = (
        machine.measured_flops("cpu", dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    assert machine_profile("cpu", torch.bfloat16).flops_per_second == half != plain


def test_a_container_limits_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    used.write_text("30000\n")
    monkeypatch.setattr(machine, "CGROUP_LIMIT", limit)
    monkeypatch.setattr(machine, "CGROUP_USE", used)
    monkeypatch.setattr(machine, "CGROUP_STAT", tmp_path / "memory.stat")
    device = torch.device("cpu")
    free = machine.available_bytes(device)
    assert free > 100_000
    limit.write_text("100000\n")
    assert machine.available_bytes(device) == 70_000
    limit.write_text("max\n")
    assert machine.available_bytes(device) > 100_000


def test_file_cache_of_a_container_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that was just read is in it, and the kernel gives it back."""
    stat = tmp_path / "memory.stat"
    for name, value in (("CGROUP_LIMIT", "100000\n"), ("CGROUP_USE", "90000\n")):
        (tmp_path / name).write_text(value)
        monkeypatch.setattr(machine, name, tmp_path / name)
    monkeypatch.setattr(machine, "CGROUP_STAT", stat)
    device = torch.device("cpu")
    assert machine.available_bytes(device) == 10_000
    stat.write_text("anon 9000\nfile 81000\nactive_file 1000\ninactive_file 80000\n")
    assert machine.available_bytes(device) == 90_000
    stat.write_text("something else\n")
    assert machine.available_bytes(device) == 10_000


@pytest.mark.gpu
def test_a_card_is_preferred() -> None:
    profile = machine_profile()
    assert profile.memory_bytes <= torch.cuda.get_device_properties(0).total_memory
    assert profile.flops_per_second > machine_profile("cpu").flops_per_second
