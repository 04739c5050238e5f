"""A fleet whose devices are only simulated: which client has which, and what happens to it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..devices.source import DevicesNow, DeviceSource, ReportedDevices
from ..errors import ConfigError
from ..settings import Simulation
from ..settings.simulation import REPORTED
from ..types import ClientInfo, DeviceProfile
from . import Device, fleet_devices, fleet_size, worker_profile
from .disturbances import Disturbances, budget_changes
from .lease import gpu_fractions
from .presets import PRESETS


@dataclass(frozen=True, kw_only=True)
class SimulatedDevices:
    """The devices that simulated clients have.

    Attributes
    ----------
    name
        A preset, a file, or a list of sizes (`hsplit_flower.simulation.fleet_devices`).
    whole_model_bytes
        What the whole model needs to be trained: some fleets are made in shares of that.
    disturbances
        What happens to the devices while the run goes on.
    seed
        The run's: of what chance decides in a fleet, such as links.
    """

    name: str
    whole_model_bytes: float
    disturbances: Disturbances
    seed: int

    takes_reports = False

    def worker(self, own: DeviceProfile) -> DeviceProfile:
        """The split worker beside the fleet, which has the memory that it really has."""
        return worker_profile(self.name, own)

    def devices(self, clients: Mapping[int, ClientInfo]) -> dict[int, Device]:
        """Each client's device: that of its partition, or of its place among the node ids."""
        numbers = device_numbers(clients)
        told = [client.num_partitions or 0 for client in clients.values()]
        all_of_them = self._devices(max([*told, *(number + 1 for number in numbers.values())]))
        return {node: all_of_them[number] for node, number in numbers.items()}

    def in_round(self, clients: Mapping[int, ClientInfo], server_round: int) -> DevicesNow:
        """What every client's device has in this round, and whose is away.

        Raises
        ------
        ConfigError
            If a device is missing, or the budget changes of one that no client has: how many
            clients there are is what they say.
        """
        if not clients:
            return DevicesNow()
        if told := max(client.num_partitions or 0 for client in clients.values()):
            self.check_changes(told)
        numbers, profiles, away = device_numbers(clients), {}, set()
        for node, device in self.devices(clients).items():
            number = numbers[node]
            factor = self.disturbances.memory_factor(number, server_round)
            own = device.profile
            profiles[node] = replace(own, memory_bytes=factor * own.memory_bytes)
            if not self.disturbances.is_available(number, server_round, own=device.unavailable):
                away.add(node)
        return DevicesNow(profiles=profiles, away=frozenset(away))

    def most_bytes(self, count: int) -> dict[int, float]:
        """The most that each device ever has, by its number."""
        return {
            number: self._factor(number) * device.profile.memory_bytes
            for number, device in enumerate(self._devices(count))
        }

    def check(self, num_clients: int, lease_card_bytes: float | None) -> None:
        """See before a run that there is a device for each client, and a card for each lease.

        Raises
        ------
        ConfigError
            If a device is missing, a budget changes of one that is not there, or naming every
            device whose memory, now or after a change, is more than a card's.
        """
        is_preset = self.name.strip().lower() in PRESETS
        size = max(num_clients, fleet_size(self.name)) if is_preset else fleet_size(self.name)
        if size < num_clients:
            raise ConfigError(
                f"fleet {self.name!r} has {size} devices, {num_clients} are wanted: one for each "
                "client"
            )
        # A preset has as many as there are clients, and how many these are they have yet to say.
        if not is_preset:
            self.check_changes(size)
        if lease_card_bytes:
            gpu_fractions(self.most_bytes(size), lease_card_bytes, what="device")

    def check_changes(self, count: int) -> None:
        """Refuse changes of the budgets of devices that are not among so many.

        Raises
        ------
        ConfigError
            Naming every one of them.
        """
        changed = {change.device for change in self.disturbances.budget_changes}
        if wrong := sorted(number for number in changed if number >= count):
            raise ConfigError(
                f"budget-changes: there is no device {', '.join(map(str, wrong))} in a run on "
                f"fleet {self.name!r}, devices are 0 to {count - 1}"
            )

    def _factor(self, number: int) -> float:
        changes = self.disturbances.budget_changes
        factors = [change.factor for change in changes if change.device == number]
        return max([1.0, *factors])

    def _devices(self, count: int) -> list[Device]:
        return fleet_devices(
            self.name,
            num_devices=count,
            whole_model_bytes=self.whole_model_bytes,
            seed=self.seed,
        )


def device_source(settings: Simulation, *, whole_model_bytes: float, seed: int) -> DeviceSource:
    """Who has what in a run: a fleet's devices where one is named, else what devices say.

    Parameters
    ----------
    settings
        Of the simulation.
    whole_model_bytes
        What the whole model needs to be trained: some fleets are made in shares of that.
    seed
        Of what chance decides.
    """
    if settings.fleet in ("", REPORTED):
        return ReportedDevices()
    return SimulatedDevices(
        name=settings.fleet,
        whole_model_bytes=whole_model_bytes,
        disturbances=Disturbances(
            unavailable=settings.unavailable,
            budget_changes=budget_changes(settings.budget_changes),
            seed=seed,
        ),
        seed=seed,
    )


def device_numbers(clients: Mapping[int, ClientInfo]) -> dict[int, int]:
    """Which device of its fleet each client has."""
    return {
        node: order if client.partition is None else client.partition
        for order, (node, client) in enumerate(sorted(clients.items()))
    }
