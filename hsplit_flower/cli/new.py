"""``hsplit new``: a Flower project of one's own, which runs as it is."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the project and its folder.")],
    folder: Annotated[Path, typer.Option(help="Folder that the project's is made in.")] = Path("."),
) -> None:
    """Make a Flower project that fine-tunes a split model and runs as it is.

    NAME is that of the project and of its folder. It has a server, a client, their data and their
    settings, to be changed. What exists already is not touched.
    """
    from .make_project import made_project

    made = made_project(name, folder)
    print("\n".join(f"made {path}" for path in made))
    print(
        f"\nRun it on three simulated clients:\n\n"
        f"export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1\n"
        f"flwr run {folder / name} --stream \\\n"
        f"    --federation-config 'num-supernodes=3 client-resources-num-cpus=1'\n\n"
        f"{folder / name / 'README.md'} says what to change for data of your own."
    )
