"""The app's settings: its own, and those of every run of the library."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hsplit_flower.methods import HSPLIT_LORA
from hsplit_flower.settings import GROUPS, RunSettings, Settings, read, setting
from hsplit_flower.settings.worker import MOST_THREADS
from hsplit_flower.strategies import STRATEGIES


class App(Settings):
    """What this app adds to a run: its method, its data, its folder."""

    strategy: str = setting(
        HSPLIT_LORA.name,
        f"The method, one of {', '.join(STRATEGIES)}.",
        wanted=f"one of {', '.join(map(repr, STRATEGIES))}",
        pattern=f"^({'|'.join(STRATEGIES)})$",
    )
    adapter: str = setting("", "Folder of a PEFT checkpoint to start from; empty starts anew.")
    resume: str = setting(
        "",
        "Folder of a run that goes on at its next round, up to num-server-rounds in all; what "
        "decides what is learnt must be set as it was there.",
    )
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
    num_server_rounds: int = setting(3, "Rounds of federated training.", unit="rounds", ge=1)
    local_steps: int = setting(10, "Optimizer steps of each client in each round.", ge=1)
    round_timeout_seconds: float = setting(
        3600.0,
        "After so long a round goes on without the clients that have not answered; so long, and a "
        "week at most, a client may wait for its turn.",
        unit="seconds",
        gt=0,
    )
    server_evaluation: bool = setting(
        True, "Whether the server evaluates the whole model on the dev set after every round."
    )
    evaluation_examples: int = setting(
        500, "At most so many dev examples, for the server and for each client.", ge=1
    )
    client_threads: int = setting(
        1,
        "Threads that each client computes with; 0 leaves torch's own choice.",
        ge=0,
        le=MOST_THREADS,
    )
    adapter_dtype: Literal["", "float32", "bfloat16", "float16"] = setting(
        "", "Type of the numbers in the adapter that the run leaves; empty is what the run sends."
    )
    output_dir: str = setting("outputs", "Folder in which the run leaves a folder of its own.")
    run_name: str = setting(
        "",
        "Name of that folder; empty is the time.",
        wanted="a name without slashes",
        pattern=r"^[^/\\]*$",
    )
    tensorboard: bool = setting(
        False,
        "Whether the run leaves events for TensorBoard in its folder, too, while it goes on; they "
        "have their own extra, hsplit-flower[tensorboard].",
    )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run-config as values: the app's own, and the run's."""

    app: App
    run: RunSettings

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, Any]) -> "RunConfig":
        """Read Flower's run config.

        Raises
        ------
        ConfigError
            Naming every key that is unknown, mistyped or out of range.
        """
        made = read({"": App, **GROUPS}, run_config)
        app = made.pop("")
        assert isinstance(app, App)
        return cls(app=app, run=RunSettings(**made))
