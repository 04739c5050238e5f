"""Where a page's commands are typed: a folder with apps in it, and more terminals than one."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from hsplit_flower.cli.simulation_run import ray_was_late
from hsplit_flower.reports import read_run
from tests.documents import GUIDE, script
from tests.ray_starts import RAY_STARTS
from tests.shells import started_in, typed


def heed_interrupts() -> None:
    """As programs of a terminal do, also where this process was started in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Desk:
    """A folder with the apps in it, and the environment of who types there."""

    folder: Path
    environment: dict[str, str]

    def type(self, commands: str, *, lines: str = "") -> str:
        """What comes of commands; these lines follow them."""
        return typed(commands, self.folder, self.environment, lines=lines)

    def simulate(self, commands: str) -> str:
        """What comes of ``flwr run``, typed again where Ray was too slow to start."""
        for _ in range(RAY_STARTS):
            said = self.type(commands)
            if not ray_was_late(said):
                break
        return said

    def runs(self) -> list[Path]:
        """Folders of runs that have a round on record: one that found Ray late has none."""
        return [each for each in (self.folder / "outputs").glob("*") if rounds_done(each)]

    def programs(self, name: str = "") -> list[psutil.Process]:
        """What was started here and still is, of this name."""
        return [
            each
            for each in started_in(self.environment)
            if name in " ".join(each.info["cmdline"] or ())
        ]

    @contextmanager
    def typing(self, script: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
        """Commands in another terminal."""
        with (
            open(log, "wb") as file,
            subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.folder,
                env={**self.environment, "PYTHONUNBUFFERED": "1"},
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()


def shown(page: str, test: str, **names: str) -> str:
    """A page's blocks of this word; ``names`` stand for words of theirs.

    The shell shows each command before what comes of it.
    """
    commands = script(GUIDE / f"{page}.md", test)
    for word, name in names.items():
        assert re.search(rf"\b{word}\b", commands)
        commands = re.sub(rf"\b{word}\b", name, commands)
    return f"set -x\n{commands}"


def rounds_done(folder: Path) -> int:
    """How many rounds of a run are on record."""
    return len(read_run(folder).training) if (folder / "metrics.jsonl").exists() else 0
