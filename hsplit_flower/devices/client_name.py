"""What a client calls itself."""

from collections.abc import Mapping

NAME_KEY, PARTITION_KEY = "name", "partition-id"


def name_from_node_config(node_config: Mapping[str, bool | int | float | str], *, host: str) -> str:
    """What ``--node-config`` calls a client; else its host, and its partition where it has one."""
    if name := str(node_config.get(NAME_KEY, "")).strip():
        return name
    host = host or "client"
    if PARTITION_KEY in node_config:
        return f"{host}/{node_config[PARTITION_KEY]}"
    return host
