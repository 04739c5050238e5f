"""The app's settings: its data, and what every app and every run of the library has."""

from dataclasses import dataclass, field, replace
from typing import Literal

from hsplit_flower.data.chat import HELP_DESK
from hsplit_flower.runs import AppSettings, run_config
from hsplit_flower.settings import Chat, setting


class App(AppSettings):
    """What this app adds to a run: its data."""

    dataset: str = setting(
        "",
        "A set that clients have parts of unless their node config names data of their own: "
        "help-desk (built in), a file (.jsonl, .ndjson, .json, .csv, .parquet) or a hub id; empty "
        "is help-desk in a simulation, and none on a SuperLink, whose clients need data then.",
    )
    held_out: str = setting(
        "",
        "File that the server evaluates on; empty is what is held out of dataset in a simulation, "
        "and no evaluation by the server on a SuperLink whose clients have data of their own.",
    )
    partition: Literal["iid", "dirichlet", "natural"] = setting(
        "dirichlet",
        "How dataset is divided among the clients: natural gives all rows with one value of "
        "partition-by to one client.",
    )
    partition_by: str = setting(
        "topic", "Column whose values decide who has a row, but for iid; topic is help-desk's."
    )
    dirichlet_alpha: float = setting(0.5, "Small is uneven.", gt=0)

    @property
    def divided(self) -> str:
        """The set that clients have parts of, if they have nothing of their own."""
        return self.dataset or HELP_DESK


@dataclass(frozen=True, kw_only=True)
class RunConfig(run_config.RunConfig):
    """The run-config as values: the app's own, its rows', and the run's."""

    app: App
    chat: Chat = field(default_factory=Chat)

    def with_divided_set(self) -> "RunConfig":
        """The same with its set by name, for a run whose clients have nothing else."""
        return replace(self, app=self.app.replace(dataset=self.app.divided))
