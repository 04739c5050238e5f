"""``hsplit demo``: the app on five simulated clients, in a Flower of its own."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError, HSplitError

NUM_CLIENTS = 5


def command(
    app: Annotated[Path, typer.Option(help="Folder of the Flower app that is run.")] = Path(
        "apps/nlg"
    ),
    home: Annotated[
        Path, typer.Option(help="Folder for Flower's own files and its log, made if absent.")
    ] = Path(".flwr"),
    output_dir: Annotated[
        Path,
        typer.Option(
            help="Folder in which the run leaves a folder of its own: settings, metrics, plan, "
            "adapter."
        ),
    ] = Path("outputs"),
    run_config: Annotated[
        list[str] | None,
        typer.Option(
            "--run-config",
            "-c",
            metavar="KEY=VALUE",
            help="Settings of the app, such as 'num-server-rounds=1 training.batch-size=8'; may be "
            "given again. hsplit settings shows the library's keys.",
            show_default="the app's own",
        ),
    ] = None,
) -> None:
    """Fine-tune the built-in model on five simulated clients.

    Runs the app on five simulated clients of unequal memory, shows its log, and leaves nothing
    running. Where Ray, which simulates them, was too slow to start, it is run once more.
    """
    from .local_flower import local_superlink, simulated_clients

    if not (app / "pyproject.toml").is_file():
        raise ConfigError(
            f"{app} is not a Flower app: run from the project's root, or give --app FOLDER"
        )
    settings = [f'output-dir="{output_dir.resolve()}"', *(run_config or ())]
    with local_superlink(home.resolve(), simulation=True) as flower:
        finished = flower.run(
            app,
            ["--run-config", " ".join(settings), *simulated_clients(NUM_CLIENTS)],
            show=sys.stdout,
        )
        if finished.failure is not None:
            raise HSplitError(
                f"the run did not come to its end: {finished.failure}\nThe reason is in the log "
                f"above, and in {flower.log}"
            )
