"""A run of ``apps/nlg`` on a SuperLink with two SuperNodes, of which something is killed."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from hsplit_flower.cli.local_flower import LocalFlower
from tests.apps.flower_app import APPS, TINY

NODES = [f"partition-id={number} num-partitions=2 memory-gb=2.0 flops=2e10" for number in range(2)]
SETTINGS: dict[str, Any] = {
    **TINY,
    "num-server-rounds": 2,
    "simulation.fleet": "",
    "aggregation.momentum": 0.3,
    # Where clients are cut is otherwise decided by the worker's speed, which is measured anew by
    # each ServerApp.
    "planning.min-cut": 4,
    "planning.max-cut": 4,
    "worker.max-sessions-per-pass": 1,
    # So that clients give up soon what died with the ServerApp.
    "link.patience-seconds": 2,
}


@contextmanager
def running(flower: LocalFlower, settings: dict[str, Any]) -> Iterator["subprocess.Popen[bytes]"]:
    """``flwr run apps/nlg``, which is not waited for."""
    text = " ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
    command = flower.command(APPS / "nlg", ["--run-config", text])
    with (
        open(flower.home / "run.log", "wb") as log,
        subprocess.Popen(command, env=flower.environment, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def programs(flower: LocalFlower, name: str) -> list[psutil.Process]:
    """The processes of one of Flower's programs that have this home."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        own = (process.info["environ"] or {}).get("FLWR_HOME") == str(flower.home)
        if own and any(part.endswith(name) for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


def perplexities(folder: Path) -> dict[int, float]:
    """Those that the server has measured so far, by round."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {row["server-round"]: row["perplexity"] for row in rows if "perplexity" in row}


def assert_same_perplexities(folder: Path, undisturbed: Path, num_rounds: int) -> None:
    """A run that went on has measured what one did that nothing happened to."""
    wanted, got = perplexities(undisturbed), perplexities(folder)
    assert got.keys() == wanted.keys() == set(range(num_rounds + 1))
    for server_round, value in wanted.items():
        assert got[server_round] == pytest.approx(value, rel=1e-6)
