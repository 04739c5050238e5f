"""What a plan is asked for that is made to be looked at."""

from ..settings import Settings, setting


class PlanQuestion(Settings):
    """How long the run is, how many take part, and what the worker has."""

    clients: int = setting(0, "Number of clients; 0 is as many as the fleet has.", ge=0)
    num_server_rounds: int = setting(
        3,
        "Rounds of the run: the global adapter, and what it takes, grows in the first ones.",
        unit="rounds",
        ge=1,
    )
    local_steps: int = setting(10, "Steps of each client in a round.", ge=1)
    worker_memory_gb: float | None = setting(
        None,
        "Memory of the split worker, its half of the model included, which it loads from --min-cut "
        "on. A run takes what its machine has; none said is no limit, and the table says what is "
        "needed.",
        unit="GB of 10^9 bytes",
        gt=0,
    )
    exact: bool = setting(
        False, "Print JSON, with exact bytes and the rank of every weight, instead of tables."
    )
