"""The app's settings: its data, and what every app and every run of the library has."""

from dataclasses import dataclass
from typing import Literal

from hsplit_flower.runs import AppSettings, run_config
from hsplit_flower.settings import setting


class App(AppSettings):
    """What this app adds to a run: its data."""

    dataset: str = setting(
        "restaurants",
        "restaurants (built in), a folder of mr,ref CSVs as E2E has them, or a hub id.",
    )
    partition: Literal["iid", "dirichlet"] = setting(
        "dirichlet", "How the training examples are divided among the clients."
    )
    partition_by: str = setting(
        "food", "Attribute of the meaning whose shares differ between clients under dirichlet."
    )
    dirichlet_alpha: float = setting(0.5, "Small is uneven.", gt=0)
    prompt: Literal["plain", "brackets"] = setting(
        "plain",
        "How a meaning is written: plain (name: The Mill; food: French) or in the data set's "
        "brackets.",
    )


@dataclass(frozen=True, kw_only=True)
class RunConfig(run_config.RunConfig):
    """The run-config as values: the app's own, and the run's."""

    app: App
