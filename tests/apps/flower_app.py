"""Running the app as a user does, and reading what it leaves."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsplit_flower.cli.local_flower import LocalFlower
from tests.ray_starts import RAY_IS_LATE, RAY_STARTS

APPS = Path(__file__).parents[2] / "apps"
TINY = {
    "num-server-rounds": 2,
    "local-steps": 2,
    "training.batch-size": 4,
    "evaluation-examples": 16,
    "run-name": "run",
}
LAST_LINE = re.compile(
    r"perplexity ([\d.]+) -> ([\d.]+) in ([\d.]+) s, [\d,]+ tokens learnt; adapter: (\S+)"
)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The log of a run and the folder that it left."""

    log: str
    folder: Path

    @property
    def perplexities(self) -> tuple[float, float]:
        """Before and after, as the last line says."""
        found = LAST_LINE.search(self.log)
        assert found is not None, self.log[-6000:]
        return float(found[1]), float(found[2])

    @property
    def metrics(self) -> list[dict[str, Any]]:
        lines = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


def run_app(
    flower: LocalFlower,
    output: Path,
    run_config: dict[str, Any],
    options: list[str] | None = None,
    *,
    app: str = "nlg",
) -> Finished:
    """``flwr run apps/nlg``, or another app of ours, with these settings; waits for its end."""
    settings = {**TINY, "output-dir": str(output), **run_config}
    text = " ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
    folder = output / str(settings["run-name"])
    was_there = folder.exists()
    for _ in range(RAY_STARTS):
        finished = subprocess.run(
            flower.command(APPS / app, ["--run-config", text, *(options or [])]),
            env={**os.environ, **flower.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        log = finished.stdout + finished.stderr
        if RAY_IS_LATE not in log:
            break
        # Of a try that did not begin nothing is to be beside what is tried.
        if not was_there:
            shutil.rmtree(folder, ignore_errors=True)
    return Finished(log=log, folder=folder)
