"""What a client's node config says of the client's own data."""

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..rows import RowFormatName
from .fields import setting
from .group import Settings
from .reading import read


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
    format: RowFormatName | None = setting(
        None, "What a row of these files is; nothing is as the run's chat.format says."
    )
    columns: tuple[str, ...] = setting(
        (),
        "What these files call otherwise, as ours=theirs; empty is as the run's chat.columns says.",
        wanted="names as ours=theirs, with commas between them",
    )

    @classmethod
    def of_node(cls, node_config: Mapping[str, Any]) -> "OwnData":
        """What a node config says.

        Raises
        ------
        ConfigError
            If a value is none that is known, or if it says something of data that it does not
            name.
        """
        known = {field.key for field in cls.known()}
        said = {key: value for key, value in node_config.items() if key in known and value != ""}
        own = read({"": cls}, said, subject="the node config")[""]
        assert isinstance(own, cls)
        if said and not own.data:
            raise ConfigError.listing(
                "the node config",
                [f"{key} is given without data: name the client's own rows, too" for key in said],
            )
        return own
