"""Which part of a set a node has, by its node config."""

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError


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
