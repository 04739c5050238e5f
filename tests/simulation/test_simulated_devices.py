"""Which simulated client has which device, and what is wrong with a fleet before a run starts."""

from pathlib import Path

import pytest

from hsplit_flower.devices.source import DevicesNow, ReportedDevices
from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import Simulation
from hsplit_flower.simulation import fleet_devices
from hsplit_flower.simulation.disturbances import Disturbances, budget_changes
from hsplit_flower.simulation.simulated_devices import SimulatedDevices, device_source
from hsplit_flower.types import ClientInfo, DeviceProfile
from tests.strategies.clients import NODES

OWN = DeviceProfile(memory_bytes=1.0, flops_per_second=1.0)
WHOLE = 8e9


def _fleet(
    name: str, disturbances: Disturbances | None = None, *, seed: int = 0
) -> SimulatedDevices:
    return SimulatedDevices(
        name=name,
        whole_model_bytes=WHOLE,
        disturbances=disturbances or Disturbances(),
        seed=seed,
    )


def _members(count: int = 2, *, partitions: bool = True) -> dict[int, ClientInfo]:
    return {
        node: ClientInfo(
            profile=OWN,
            num_examples=5,
            partition=partition if partitions else None,
            num_partitions=count if partitions else None,
        )
        for partition, node in enumerate(NODES[:count])
    }


def _file(folder: Path, *unavailable: float) -> str:
    path = folder / "fleet.toml"
    tables = [f"[[device]]\nmemory-gb = 2\nflops = 1e12\nunavailable = {u}\n" for u in unavailable]
    path.write_text("".join(tables), encoding="utf-8")
    return str(path)


def test_devices_go_by_partition_and_not_by_node_id() -> None:
    assert NODES[0] > NODES[1], "the first partition has the larger id"
    now = _fleet("0.5,1").in_round(_members(), 1)
    assert [now.profiles[node].memory_bytes for node in NODES[:2]] == [WHOLE / 2, WHOLE]
    assert now.away == set()


def test_devices_of_clients_that_say_no_partition_go_by_order() -> None:
    profiles = _fleet("0.5,1").in_round(_members(partitions=False), 1).profiles
    assert [profiles[node].memory_bytes for node in sorted(NODES[:2])] == [WHOLE / 2, WHOLE]


@pytest.mark.parametrize("name", ["0.5,1", "heterogeneous", "paper-llama2-7b"])
def test_chance_is_the_seeds(name: str) -> None:
    first, other = (_fleet(name, seed=seed).devices(_members()) for seed in (0, 3))
    assert first != other
    alike = fleet_devices(name, num_devices=2, whole_model_bytes=WHOLE, seed=3)
    assert [other[node] for node in NODES[:2]] == alike


def test_nobody_has_no_device() -> None:
    assert _fleet("0.5,1").in_round({}, 1) == DevicesNow()


def test_budgets_change_by_number_and_round() -> None:
    fleet = _fleet("0.5,1", Disturbances(budget_changes=budget_changes("2:1=0.5")))
    second = [fleet.in_round(_members(), r).profiles[NODES[1]].memory_bytes for r in (1, 2, 3)]
    assert second == [WHOLE, WHOLE / 2, WHOLE / 2]


def test_a_file_keeps_devices_away_as_often_as_it_says(tmp_path: Path) -> None:
    fleet = _fleet(_file(tmp_path, 0.0, 0.3))
    away = [fleet.in_round(_members(), server_round).away for server_round in range(1, 1001)]
    assert sum(NODES[1] in one for one in away) / len(away) == pytest.approx(0.3, abs=0.05)
    assert not any(NODES[0] in one for one in away)


@pytest.mark.parametrize("fleet", ["0.5,1", "heterogeneous", "paper-llama2-7b"])
def test_a_fleet_that_is_enough_passes(fleet: str) -> None:
    _fleet(fleet).check(2, None)
    _fleet(fleet).check(2, 80e9)


def test_too_few_devices_are_told_before_the_run(tmp_path: Path) -> None:
    for name in ("0.5,1", _file(tmp_path, 0.0, 0.0)):
        with pytest.raises(ConfigError, match=r"has 2 devices, 3 are wanted"):
            _fleet(name).check(3, None)


def test_a_change_of_a_device_that_is_not_there_is_told_before_the_run() -> None:
    fleet = _fleet("0.5,1", Disturbances(budget_changes=budget_changes("2:1=0.5,3:2=0.5")))
    with pytest.raises(ConfigError, match=r"there is no device 2 in .*devices are 0 to 1"):
        fleet.check(2, None)


@pytest.mark.parametrize("name", ["heterogeneous", "paper-llama2-7b"])
def test_a_change_of_a_device_that_no_client_has_is_told_when_they_say_how_many_they_are(
    name: str,
) -> None:
    fleet = _fleet(name, Disturbances(budget_changes=budget_changes("3:99=0.5,2:1=0.5,3:2=2")))
    fleet.check(2, None)
    with pytest.raises(ConfigError, match=r"no device 2, 99 in .*devices are 0 to 1"):
        fleet.in_round(_members(), 1)
    # Who says no number may not be all.
    fleet.in_round(_members(partitions=False), 1)


def test_a_change_of_a_device_of_the_file_that_no_client_has_is_told(tmp_path: Path) -> None:
    changes = Disturbances(budget_changes=budget_changes("3:2=0.5"))
    fleet = _fleet(_file(tmp_path, 0.0, 0.0, 0.0), changes)
    fleet.check(2, None)
    with pytest.raises(ConfigError, match=r"no device 2 in .*devices are 0 to 1"):
        fleet.in_round(_members(), 1)


def test_every_lease_that_is_larger_than_a_card_is_told_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"device 1: .*larger than a card") as caught:
        _fleet("0.5,1").check(2, 5e9)
    assert "device 0" not in str(caught.value)
    # The largest of five devices counts, though two clients are sure so far.
    with pytest.raises(ConfigError, match="device 4: "):
        _fleet("heterogeneous").check(2, 7.9e9)


def test_a_lease_that_only_grows_larger_than_a_card_is_told_before_the_run() -> None:
    doubled = Disturbances(budget_changes=budget_changes("3:0=2.1,4:0=1"))
    _fleet("0.5,1").check(2, 8e9)
    with pytest.raises(ConfigError, match=r"device 0: a budget of 8.4 GB is larger than a card of"):
        _fleet("0.5,1", doubled).check(2, 8e9)


def test_who_has_what_comes_from_the_fleet_where_one_is_named() -> None:
    settings = Simulation(fleet="0.5,1", unavailable=0.2, budget_changes="2:1=0.5")
    source = device_source(settings, whole_model_bytes=WHOLE, seed=3)
    changes = budget_changes("2:1=0.5")
    wanted = Disturbances(unavailable=0.2, budget_changes=changes, seed=3)
    assert source == _fleet("0.5,1", wanted, seed=3)
    assert not source.takes_reports


def test_without_a_fleet_devices_have_what_they_say() -> None:
    assert isinstance(device_source(Simulation(), whole_model_bytes=WHOLE, seed=3), ReportedDevices)
