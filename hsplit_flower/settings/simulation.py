"""Devices that are only simulated: what they have, and what happens to them."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from .device import DEVICE_KEYS
from .fields import setting
from .group import Settings

REPORTED = "reported"
"""The fleet of devices that are what their own machine and node config say."""
MADE_UP = "heterogeneous"
"""The fleet of a simulation in which nobody has named one."""
_CARD = DEVICE_KEYS["memory-gb"]


def _of_a_card(gigabytes: float) -> float:
    if gigabytes and _CARD.problem("", gigabytes):
        raise PydanticCustomError("no_card", "no card has that")
    return gigabytes


Fraction = Annotated[float, Field(ge=0, le=1)]


class Simulation(Settings):
    """The fleet of a simulation; a run on real devices has none."""

    fleet: str = setting(
        "",
        "What simulated clients have: homogeneous, heterogeneous, paper-llama2-7b, "
        "jetson-and-laptops, the whole path of a .toml file, or a list with an item for each "
        "client: memory (4GB,600MB; 1 GB is 10^9 bytes) or its share of what training the whole "
        f"model needs (0.25,0.5,1). {REPORTED}, or empty in Python, asks each client's own machine "
        "and node config; so does a deployment, which refuses a fleet.",
    )
    unavailable: Fraction | tuple[Fraction, ...] = setting(
        0.0,
        "Probability that a device is away in a round, on top of what the fleet says: one for all, "
        "or in Python one for each.",
        wanted="a fraction from 0 to 1",
    )
    budget_changes: str = setting(
        "",
        "Whose memory changes when: 3:2=0.5 gives device 2 half its memory from round 3 on; more "
        "are separated by commas.",
    )
    lease_card_gb: Annotated[float, AfterValidator(_of_a_card)] = setting(
        0.0,
        "What clients share of each card's memory; each leases from Ray, while it trains, the part "
        "that its own memory is. What the card has over must suffice for a worker and a server "
        "evaluation that are on it, too. 0 leases nothing.",
        unit="GB of 10^9 bytes",
        wanted=f"0 or {_CARD.least:g} to {_CARD.most:g}",
    )

    @property
    def lease_card_bytes(self) -> float | None:
        """What clients share of each card; None for no leases."""
        return self.lease_card_gb * 1e9 or None

    def with_fleet(self) -> "Simulation":
        """With made-up devices where none are named: one machine runs all simulated clients."""
        return self if self.fleet else self.replace(fleet=MADE_UP)
