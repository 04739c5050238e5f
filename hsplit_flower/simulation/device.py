"""One device of a simulated fleet."""

from dataclasses import dataclass

from ..types import DeviceProfile


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a device has, and how often it is not there.

    Attributes
    ----------
    profile
        Memory, speed and link.
    unavailable
        Probability that it is away in a round, in [0, 1).
    name
        What people call it; may be empty.
    """

    profile: DeviceProfile
    unavailable: float = 0.0
    name: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.unavailable < 1.0:
            raise ValueError(f"unavailable must be in [0, 1), got {self.unavailable}")
