"""A run of an app as a user starts it, on simulated clients and a SuperLink of its own."""

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness.machine import ROOT
from hsplit_flower.cli.local_flower import local_superlink, simulated_clients


def app_run(
    settings: Mapping[str, str | int | float | bool],
    scratch: Path,
    num_clients: int,
    app: str = "nlg",
) -> tuple[Path, str]:
    """``flwr run`` of an app to its end: the run's folder, and its log.

    Parameters
    ----------
    settings
        Keys of the run-config; where it is written is said here.
    scratch
        Of this run alone.
    num_clients
        That are simulated.
    app
        Its folder's name in ``apps/``.

    Raises
    ------
    RuntimeError
        If it fails, with the end of its log.
    """
    config = {**settings, "output-dir": str(scratch), "run-name": "run"}
    told = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
    with local_superlink(scratch / "flower", simulation=True) as flower:
        options = ["--run-config", told, *simulated_clients(num_clients)]
        finished = flower.run(ROOT / "apps" / app, options)
    if finished.failure:
        raise RuntimeError(f"flwr run did not finish: {finished.failure}\n{finished.log[-4000:]}")
    return scratch / "run", finished.log
