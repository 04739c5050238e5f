"""The devices of a simulated fleet: a preset, a file, or a list of sizes."""

import math
import re
from pathlib import Path

from ..errors import ConfigError
from ..settings.device import DEVICE_KEYS, GIGABYTE
from ..types import DeviceProfile
from .device import Device
from .fleet_file import ENDING, FleetFile, read_fleet_file
from .presets import FLOPS_PER_SECOND, PRESETS, WORKER_SPEED, FleetRequest, share_devices

# A share above this is most likely a number of gigabytes whose unit was forgotten; with one below,
# no device could hold anything of the model.
LEAST_SHARE, MOST_SHARE = 1e-6, 2.0

UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "MIB": 2**20, "GIB": 2**30}
SIZE = re.compile(r"(?P<number>[-+.\de]+|nan|inf)\s*(?P<unit>[a-z]*)", re.IGNORECASE)


def fleet_devices(
    fleet: str, *, num_devices: int, whole_model_bytes: float, seed: int = 0
) -> list[Device]:
    """Each device; the client with partition id ``i`` has number ``i``.

    Parameters
    ----------
    fleet
        A preset: ``"homogeneous"`` (0.6 of the whole model each), ``"heterogeneous"`` (0.25 to 1.0,
        evenly spread), ``"paper-llama2-7b"`` (5 to 20 GB by chance), ``"jetson-and-laptops"`` (real
        devices in turn). Or a path that ends in ``.toml`` (`fleet_file`). Or a list with an item
        for each device: shares (``"0.25,0.4,0.6"``) or sizes (``"4GB,600MB"``; 1 GB is 10⁹ bytes).
    num_devices
        How many there are.
    whole_model_bytes
        What the whole model needs to be trained (`planning.whole_model_memory`).
    seed
        Of what chance decides: links, and the memory of ``"paper-llama2-7b"``.

    Raises
    ------
    ConfigError
        If the fleet is none of these, or has not as many devices as are wanted.
    """
    if num_devices < 1:
        raise ConfigError(f"a fleet needs at least one device, got num_devices = {num_devices}")
    if preset := PRESETS.get(_name(fleet)):
        request = FleetRequest(
            num_devices=num_devices, whole_model_bytes=whole_model_bytes, seed=seed
        )
        return preset.devices(request)
    if file := _file(fleet):
        if len(file.devices) < num_devices:
            raise ConfigError(
                f"fleet file {fleet!r} has {len(file.devices)} devices, {num_devices} are wanted: "
                "one for each client"
            )
        return list(file.devices[:num_devices])
    shares = _listed_shares(fleet, whole_model_bytes)
    if len(shares) != num_devices:
        raise ConfigError(
            f"fleet {fleet!r} lists {len(shares)} devices, {num_devices} are wanted: one for each "
            "client"
        )
    return share_devices(shares, whole_model_bytes, seed=seed)


def fleet_profiles(
    fleet: str, *, num_devices: int, whole_model_bytes: float, seed: int = 0
) -> list[DeviceProfile]:
    """The profile of each device of a fleet (`fleet_devices`)."""
    devices = fleet_devices(
        fleet, num_devices=num_devices, whole_model_bytes=whole_model_bytes, seed=seed
    )
    return [device.profile for device in devices]


def fleet_size(fleet: str) -> int:
    """How many devices a fleet has where nobody says how many are wanted.

    Raises
    ------
    ConfigError
        If the fleet cannot be read.
    """
    if preset := PRESETS.get(_name(fleet)):
        return preset.num_devices
    if file := _file(fleet):
        return len(file.devices)
    return len(_listed_shares(fleet, whole_model_bytes=1.0))


def worker_profile(fleet: str, own: DeviceProfile) -> DeviceProfile:
    """The split worker that stands beside a simulated fleet.

    It has the memory that it really has, ``own``, or less if a fleet's file says so. Its speed is
    the file's or the preset's: that of about five devices of the heterogeneous preset together, so
    that neither side need be idle for the other. The link is counted at the clients.

    Raises
    ------
    ConfigError
        If the fleet cannot be read; that its length fits is checked with the devices.
    """
    memory, speed = own.memory_bytes, WORKER_SPEED * FLOPS_PER_SECOND
    if preset := PRESETS.get(_name(fleet)):
        speed = preset.worker_flops_per_second
    elif file := _file(fleet):
        fastest = max(device.profile.flops_per_second for device in file.devices)
        speed = file.worker_flops_per_second or WORKER_SPEED * fastest
        memory = min(memory, file.worker_memory_bytes or math.inf)
    else:
        _listed_shares(fleet, whole_model_bytes=1.0)
    return DeviceProfile(memory_bytes=memory, flops_per_second=speed)


def _name(fleet: str) -> str:
    return fleet.strip().lower()


def _file(fleet: str) -> FleetFile | None:
    """The file, if the fleet is the path of one."""
    is_path = _name(fleet).endswith(ENDING)
    return read_fleet_file(Path(fleet.strip()).expanduser()) if is_path else None


def _listed_shares(fleet: str, whole_model_bytes: float) -> list[float]:
    shares, wrong = [], []
    for index, item in enumerate(fleet.split(",")):
        try:
            shares.append(_share(item.strip(), whole_model_bytes))
        except ConfigError as error:
            wrong.append(f"item {index}: {error}")
    if wrong:
        raise ConfigError(
            f"fleet {fleet!r} is neither a preset ({', '.join(PRESETS)}), nor a {ENDING} file, nor "
            f"a list of sizes: {'; '.join(wrong)}"
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
        if number < LEAST_SHARE:
            raise ConfigError(
                f"{item} is a share of what the whole model needs, at least {LEAST_SHARE:g}"
            )
        if number > MOST_SHARE:
            raise ConfigError(
                f"{item} is a share of what the whole model needs, at most {MOST_SHARE:g}; "
                f"{item}GB if gigabytes are meant"
            )
        return number
    if unit not in UNITS:
        raise ConfigError(f"{item!r} has an unknown unit, wanted one of {', '.join(UNITS)}")
    gigabytes = number * (UNITS[unit] / GIGABYTE)
    if problem := DEVICE_KEYS["memory-gb"].problem(f"{item} in GB", gigabytes):
        raise ConfigError(problem)
    return number * UNITS[unit] / whole_model_bytes
