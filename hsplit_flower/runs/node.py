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
        If its node config does not say so.
    """
    try:
        position = int(node_config["partition-id"])
        num_clients = int(node_config["num-partitions"])
    except KeyError as error:
        raise ConfigError(
            f"the node config lacks {error}: start the SuperNode with "
            "--node-config 'partition-id=0 num-partitions=2'"
        ) from None
    if not 0 <= position < num_clients:
        raise ConfigError(f"partition-id = {position}: 0 to {num_clients - 1} is wanted")
    return position, num_clients
