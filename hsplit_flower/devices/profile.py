"""A client's device profile from what its SuperNode was started with."""

import math
from collections.abc import Mapping
from dataclasses import replace

from ..errors import ConfigError
from ..types import DeviceProfile

GIGABYTE = 1e9
BYTES_PER_MEGABIT = 1e6 / 8

# Node-config key -> field of the profile, and how many of the field's unit one of the key's is.
KEYS = {
    "memory-gb": ("memory_bytes", GIGABYTE),
    "flops": ("flops_per_second", 1.0),
    "up-mbps": ("up_bytes_per_second", BYTES_PER_MEGABIT),
    "down-mbps": ("down_bytes_per_second", BYTES_PER_MEGABIT),
    "rtt-ms": ("round_trip_seconds", 1e-3),
}
MAY_BE_ZERO = {"rtt-ms"}
MAY_BE_INFINITE = {"up-mbps", "down-mbps"}


def profile_from_node_config(
    node_config: Mapping[str, bool | int | float | str], default: DeviceProfile
) -> DeviceProfile:
    """What ``--node-config`` says of the device; ``default`` for what it does not say.

    Keys are ``memory-gb`` (1 GB = 10⁹ bytes), ``flops`` (operations per second), ``up-mbps`` and
    ``down-mbps`` (10⁶ bits per second), and ``rtt-ms``. Others are somebody else's and left alone.

    Raises
    ------
    ConfigError
        Naming every key whose value is not a positive number.
    """
    wrong, fields = [], {}
    for key, (field, unit) in KEYS.items():
        if key not in node_config:
            continue
        try:
            fields[field] = _number(key, node_config[key]) * unit
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("node-config: " + "; ".join(wrong))
    return replace(default, **fields)


def _number(key: str, value: bool | int | float | str) -> float:
    wanted = f"a {'number of zero or more' if key in MAY_BE_ZERO else 'positive number'}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{key} is {value!r}, {wanted} is wanted (without quotes)")
    is_allowed = value >= 0 if key in MAY_BE_ZERO else value > 0
    is_bounded = not math.isinf(value) or key in MAY_BE_INFINITE
    if not (is_allowed and is_bounded):
        raise ConfigError(f"{key} is {value}, {wanted} is wanted")
    return float(value)
