"""What a client's process knows of its node: whether it is real, and which part of a set it has."""

from collections.abc import Mapping
from typing import Any

from ..devices.cards import is_rays_process
from ..errors import ConfigError


def is_simulated() -> bool:
    """Whether this process serves virtual clients of Flower's simulation, which Ray runs."""
    return is_rays_process()


def partition_of(node_config: Mapping[str, Any]) -> tuple[int, int]:
    """Which partition a client has, and how many there are.

    Raises
    ------
    ConfigError
        If its node config does not say so, or says something else than whole numbers.
    """
    for key in ("partition-id", "num-partitions"):
        if key not in node_config:
            raise ConfigError(
                f"the node config lacks {key!r}: start the SuperNode with "
                "--node-config 'partition-id=0 num-partitions=2'"
            )
    position = partition_id_of(node_config)
    num_clients = _whole_number(node_config, "num-partitions", least=1)
    if position >= num_clients:
        raise ConfigError(f"partition-id = {position}: 0 to {num_clients - 1} is wanted")
    return position, num_clients


def partition_id_of(node_config: Mapping[str, Any]) -> int:
    """Which partition a client has; 0 where its node config does not say.

    Raises
    ------
    ConfigError
        If it says something else than a whole number of 0 or more.
    """
    return _whole_number(node_config, "partition-id", least=0)


def _whole_number(node_config: Mapping[str, Any], key: str, *, least: int) -> int:
    value = node_config.get(key, least)
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if number < least:
        raise ConfigError(
            f"the node config has {key} = {value!r}: a whole number of {least} or more is wanted; "
            f"start the SuperNode with {key}={least}, or another one, in its --node-config"
        )
    return number
