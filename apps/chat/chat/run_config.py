"""The app's settings: its data, and what every app and every run of the library has."""

from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import model_validator
from typing_extensions import Self

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
    partition: Literal["", "iid", "dirichlet", "natural"] = setting(
        "",
        "How dataset is divided among the clients: natural gives all rows with one value of "
        "partition-by to one client. Empty is dirichlet for help-desk and where partition-by is "
        "said, and iid else.",
    )
    partition_by: str = setting(
        "",
        "Column whose values decide who has a row, but for iid; empty is help-desk's topic.",
    )
    dirichlet_alpha: float = setting(0.5, "Small is uneven.", gt=0)

    @model_validator(mode="after")
    def _has_a_column(self) -> Self:
        if self.scheme != "iid" and not self.column:
            raise ValueError(
                f"partition is {self.partition!r} and partition-by empty: a column of "
                f"{self.divided} is wanted, by whose values rows are divided; or partition='iid'"
            )
        return self

    @property
    def scheme(self) -> str:
        """How the set is divided."""
        return self.partition or ("dirichlet" if self.column else "iid")

    @property
    def column(self) -> str:
        """By whose values the set is divided, where that is not iid; empty if nothing says it."""
        return self.partition_by or ("topic" if self.divided == HELP_DESK else "")

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
