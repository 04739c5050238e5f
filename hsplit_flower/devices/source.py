"""Who has what: from what devices say of themselves, or from a fleet that is simulated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, final

from ..errors import ConfigError
from ..types import ClientInfo, DeviceProfile


@dataclass(frozen=True, kw_only=True)
class DevicesNow:
    """What each client's device has in a round, and whose is away."""

    profiles: Mapping[int, DeviceProfile] = field(default_factory=dict)
    away: frozenset[int] = frozenset()

    @property
    def present(self) -> dict[int, DeviceProfile]:
        """What those have that are not away."""
        return {node: own for node, own in self.profiles.items() if node not in self.away}


class DeviceSource(Protocol):
    """Where the planner's device profiles come from."""

    @property
    def name(self) -> str:
        """In words, for the log."""

    @property
    def takes_reports(self) -> bool:
        """Whether a device has what it says, and may say something else the next time."""

    def worker(self, own: DeviceProfile) -> DeviceProfile:
        """What the split worker is planned with, which has ``own``."""

    def in_round(self, clients: Mapping[int, ClientInfo], server_round: int) -> DevicesNow:
        """What these clients' devices have in a round, and whose is away."""

    def check(self, num_clients: int, lease_card_bytes: float | None) -> None:
        """See before a run that there is a device for each client, and a card for each lease.

        Raises
        ------
        ConfigError
            Naming what is missing.
        """


@final
class ReportedDevices:
    """Real devices: each has what it says."""

    name = "as the devices say"
    takes_reports = True

    def worker(self, own: DeviceProfile) -> DeviceProfile:
        """What the worker says, too."""
        return own

    def in_round(self, clients: Mapping[int, ClientInfo], server_round: int) -> DevicesNow:
        """What each has said last; a device whose node is connected is there."""
        return DevicesNow(profiles={node: client.profile for node, client in clients.items()})

    def check(self, num_clients: int, lease_card_bytes: float | None) -> None:
        """Nothing is known of them yet; parts of cards are for simulations."""
        if lease_card_bytes:
            raise ConfigError(
                "parts of cards are leased by the devices of a simulated fleet, and there is none: "
                "name a fleet, or leave lease_card_gb out"
            )
