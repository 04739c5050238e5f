"""What an app of ours has of settings beside those of every run."""

from typing import Literal

from ..methods import HSPLIT_LORA
from ..settings import Settings, setting
from ..settings.worker import MOST_THREADS
from ..strategies import STRATEGIES


class AppSettings(Settings):
    """The method, the rounds, the evaluation and the folder of a run.

    An app adds its data.
    """

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
    num_server_rounds: int = setting(3, "Rounds of federated training.", unit="rounds", ge=1)
    local_steps: int = setting(10, "Optimizer steps of each client in each round.", ge=1)
    local_epochs: float = setting(
        0.0,
        "Passes of each client over its own examples in each round, in the place of local-steps; "
        "0 takes these.",
        ge=0,
    )
    round_timeout_seconds: float = setting(
        3600.0,
        "After so long a round goes on without the clients that have not answered; so long, and a "
        "week at most, a client may wait for its turn.",
        unit="seconds",
        gt=0,
    )
    server_evaluation: bool = setting(
        True, "Whether the server evaluates the whole model on held-out examples after every round."
    )
    evaluation_examples: int = setting(
        500, "At most so many held-out examples, for the server and for each client.", ge=1
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
