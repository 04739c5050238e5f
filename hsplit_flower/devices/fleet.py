"""The devices of a simulated fleet.

Memory is given as a share of what the whole model would need to be trained unsplit, so that a
preset means the same for every model. Speed and link follow memory: who has twice the memory
computes twice as fast, and links differ from device to device.
"""

import math
import random
import re

from ..errors import ConfigError
from ..types import DeviceProfile

PRESETS = ("homogeneous", "heterogeneous")
HOMOGENEOUS_SHARE = 0.6
LOWEST_SHARE, HIGHEST_SHARE = 0.25, 1.0
# A share above this is most likely a number of gigabytes whose unit was forgotten.
MOST_SHARE = 2.0

# A device that could hold the whole model, just: a laptop's GPU on a home connection.
FLOPS_PER_SECOND = 4e12
UP_BYTES_PER_SECOND = 50e6 / 8
DOWN_BYTES_PER_SECOND = 200e6 / 8
ROUND_TRIP_SECONDS = 0.02
# Of the split worker, in devices of the above.
WORKER_SPEED = 3.0
# Links of the heterogeneous preset are up to this much slower or faster.
LINK_SPREAD = 2.0

UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "MIB": 2**20, "GIB": 2**30}
SIZE = re.compile(r"(?P<number>[-+.\de]+|nan|inf)\s*(?P<unit>[a-z]*)", re.IGNORECASE)


def fleet_profiles(
    fleet: str, *, num_devices: int, whole_model_bytes: float, seed: int = 0
) -> list[DeviceProfile]:
    """The profile of each device; the client with partition id ``i`` has number ``i``.

    Parameters
    ----------
    fleet
        ``"homogeneous"`` (0.6 each), ``"heterogeneous"`` (0.25 to 1.0, evenly spread), or a list
        with an item for each device: shares (``"0.25,0.4,0.6"``) or sizes (``"4GB,600MB"``; 1 GB
        is 10⁹ bytes).
    num_devices
        How many there are.
    whole_model_bytes
        What the whole model needs to be trained (`planning.whole_model_memory`).
    seed
        Of what chance decides: the links.

    Raises
    ------
    ConfigError
        If the fleet is neither a preset nor a list of as many positive sizes as there are devices.
    """
    if num_devices < 1:
        raise ConfigError(f"a fleet needs at least one device, got num_devices = {num_devices}")
    shares = _shares(fleet, num_devices, whole_model_bytes)
    is_alike = len(set(shares)) == 1
    generator = random.Random(seed)
    return [
        _profile(share, whole_model_bytes, 1.0 if is_alike else _spread(generator))
        for share in shares
    ]


def worker_profile(fleet: str, own: DeviceProfile) -> DeviceProfile:
    """The split worker that stands beside a simulated fleet.

    It has the memory that it really has, ``own``, and the speed of about five devices of the
    heterogeneous preset together, so that neither side need be idle for the other. The link is
    counted at the clients.

    Raises
    ------
    ConfigError
        If the fleet cannot be read; that its length fits is checked with the devices.
    """
    if fleet.strip().lower() not in PRESETS:
        _listed_shares(fleet, whole_model_bytes=1.0)
    return DeviceProfile(
        memory_bytes=own.memory_bytes, flops_per_second=WORKER_SPEED * FLOPS_PER_SECOND
    )


def _shares(fleet: str, num_devices: int, whole_model_bytes: float) -> list[float]:
    name = fleet.strip().lower()
    if name == "homogeneous":
        return [HOMOGENEOUS_SHARE] * num_devices
    if name == "heterogeneous":
        step = (HIGHEST_SHARE - LOWEST_SHARE) / max(1, num_devices - 1)
        return [LOWEST_SHARE + step * index for index in range(num_devices)]
    shares = _listed_shares(fleet, whole_model_bytes)
    if len(shares) != num_devices:
        raise ConfigError(
            f"fleet {fleet!r} lists {len(shares)} devices, {num_devices} are wanted: one for each "
            "client"
        )
    return shares


def _listed_shares(fleet: str, whole_model_bytes: float) -> list[float]:
    shares, wrong = [], []
    for index, item in enumerate(fleet.split(",")):
        try:
            shares.append(_share(item.strip(), whole_model_bytes))
        except ConfigError as error:
            wrong.append(f"item {index}: {error}")
    if wrong:
        presets = " or ".join(repr(preset) for preset in PRESETS)
        raise ConfigError(
            f"fleet {fleet!r} is neither {presets} nor a list of sizes: {'; '.join(wrong)}"
        )
    return shares


def _share(item: str, whole_model_bytes: float) -> float:
    found = SIZE.fullmatch(item)
    try:
        number = float(found["number"]) if found else math.nan
    except ValueError:
        number = math.nan
    if found is None or not 0.0 < number < math.inf:
        raise ConfigError(f"{item!r} is not a positive share or size, such as 0.25 or 4GB")
    unit = found["unit"].upper()
    if not unit:
        if number > MOST_SHARE:
            raise ConfigError(
                f"{item} is a share of what the whole model needs, at most {MOST_SHARE:g}; "
                f"{item}GB if gigabytes are meant"
            )
        return number
    if unit not in UNITS:
        raise ConfigError(f"{item!r} has an unknown unit, wanted one of {', '.join(UNITS)}")
    return number * UNITS[unit] / whole_model_bytes


def _profile(share: float, whole_model_bytes: float, link: float) -> DeviceProfile:
    return DeviceProfile(
        memory_bytes=share * whole_model_bytes,
        flops_per_second=share * FLOPS_PER_SECOND,
        up_bytes_per_second=link * UP_BYTES_PER_SECOND,
        down_bytes_per_second=link * DOWN_BYTES_PER_SECOND,
        round_trip_seconds=ROUND_TRIP_SECONDS / link,
    )


def _spread(generator: random.Random) -> float:
    """A factor between ``1 / LINK_SPREAD`` and ``LINK_SPREAD``, evenly in its logarithm."""
    return float(LINK_SPREAD ** generator.uniform(-1.0, 1.0))
