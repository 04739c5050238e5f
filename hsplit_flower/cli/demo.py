"""``hsplit demo``: the app on five simulated clients, in a Flower of its own."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .local_flower import local_superlink, simulated_clients

NUM_CLIENTS = 5


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "demo",
        help="fine-tune the built-in model on five simulated clients",
        description="Run the app on five simulated clients of unequal memory, show its log, and "
        "leave nothing running.",
    )
    parser.add_argument(
        "--app",
        type=Path,
        default=Path("apps/nlg"),
        help="folder of the Flower app that is run (default: %(default)s)",
    )
    parser.add_argument(
        "--home",
        type=Path,
        default=Path(".flwr"),
        help="folder for Flower's own files and its log, made if absent (default: %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("outputs"),
        help="folder in which the run leaves a folder of its own: settings, metrics, plan, adapter "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--run-config",
        "-c",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="settings of the app, such as 'num-server-rounds=1 batch-size=8'; may be given again; "
        "all keys are described in nlg/run_config.py of the app (default: its pyproject.toml)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Start Flower, run the app, stop Flower; give 0 if the app came to its end."""
    if not (options.app / "pyproject.toml").is_file():
        raise ConfigError(
            f"{options.app} is not a Flower app: run from the project's root, or give --app FOLDER"
        )
    settings = [f'output-dir="{options.output_dir.resolve()}"', *options.run_config]
    with local_superlink(options.home.resolve(), simulation=True) as flower:
        command = flower.command(
            options.app,
            [
                "--run-config",
                " ".join(settings),
                *simulated_clients(NUM_CLIENTS),
            ],
        )
        status = subprocess.run(command, env=flower.environment, check=False).returncode
        if failure := flower.failure():
            print(
                f"hsplit: the run did not come to its end: {failure}\nThe reason is in the log "
                f"above, and in {flower.home / 'superlink.log'}; on a busy machine Ray may have "
                "been too slow to start: try again.",
                file=sys.stderr,
            )
            return status or 1
        return status
