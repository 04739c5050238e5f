"""A client's device profile from what its SuperNode was started with."""

import math
from collections.abc import Mapping
from dataclasses import replace

from ..errors import ConfigError
from ..settings.device import profile_fields
from ..types import DeviceProfile


def profile_from_node_config(
    node_config: Mapping[str, bool | int | float | str], default: DeviceProfile
) -> DeviceProfile:
    """What ``--node-config`` says of the device; ``default`` for what it does not say.

    Keys are ``memory-gb`` (1 GB = 10⁹ bytes), ``flops`` (operations per second), ``up-mbps`` and
    ``down-mbps`` (10⁶ bits per second), and ``rtt-ms``. Others are somebody else's and left alone.

    Raises
    ------
    ConfigError
        Naming every key whose value is not a positive number, or one that no device has.
    """
    fields, problems = profile_fields(node_config)
    if problems:
        raise ConfigError("node-config: " + "; ".join(problems))
    return replace(default, **fields)


def memory_limit_bytes(node_config: Mapping[str, bool | int | float | str]) -> float:
    """The memory that ``--node-config`` grants; infinite where it says nothing of it.

    Raises
    ------
    ConfigError
        As `profile_from_node_config` does.
    """
    unlimited = DeviceProfile(memory_bytes=math.inf, flops_per_second=math.inf)
    return profile_from_node_config(node_config, unlimited).memory_bytes
