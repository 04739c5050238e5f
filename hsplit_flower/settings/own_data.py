"""What a client's node config says of the client's own data."""

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from .fields import setting
from .group import Settings
from .reading import as_key


class OwnData(Settings):
    """The files of one client, on its own disk."""

    data: str = setting(
        "",
        "File with this client's rows: .jsonl, .ndjson, .json, .csv or .parquet; empty where it "
        "has a part of the run's data set.",
    )
    held_out: str = setting(
        "",
        "File with rows that this client measures on and never trains on; empty keeps "
        "chat.held-out-share of its rows for that.",
    )

    @classmethod
    def of_node(cls, node_config: Mapping[str, Any]) -> "OwnData":
        """What a node config says.

        Raises
        ------
        ConfigError
            If it names no files by texts, or what is held out of data that it does not name.
        """
        values = {
            field.name: node_config[field.key] for field in cls.known() if field.key in node_config
        }
        own, problems = cls.read(values, as_key)
        if own is not None and own.held_out and not own.data:
            problems = ["held-out is given without data: name the client's own rows, too"]
        if own is None or problems:
            raise ConfigError.listing("the node config", problems)
        return own
