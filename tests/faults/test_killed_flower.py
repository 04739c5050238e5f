"""Flower's own parts are killed under a run: a SuperNode while it trains, and the SuperLink."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from hsplit_flower.cli.local_flower import (
    LocalFlower,
    background,
    flower_environment,
    free_port,
    local_superlink,
    script,
)
from hsplit_flower.server.past_run import read_past_run
from tests.apps.flower_app import APPS, run_app
from tests.faults.test_killed_server_app import NODES, SETTINGS, perplexities, wait_until

ROUNDS = 3


@contextmanager
def node(flower: LocalFlower, number: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A SuperNode of this SuperLink."""
    command = [
        script("flower-supernode"),
        "--insecure",
        *("--superlink", flower.address),
        *("--port", str(free_port())),
        *("--node-config", NODES[number]),
    ]
    log = flower.home / f"supernode-{number}.log"
    with background(command, flower_environment(flower.home), log) as process:
        yield process


@contextmanager
def two_nodes(home: Path) -> Iterator[LocalFlower]:
    """A SuperLink and its nodes, which end when it does not know them any more."""
    with local_superlink(home, simulation=False) as flower, node(flower, 0), node(flower, 1):
        yield flower


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


def told(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "training"]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_node_that_is_killed_and_comes_back_loses_its_part_of_a_round(tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "num-server-rounds": ROUNDS,
        "sampling.min-train-nodes": 1,
        "output-dir": str(tmp_path),
        "run-name": "run",
    }
    folder = tmp_path / "run"
    with (
        local_superlink(tmp_path / "flwr", simulation=False) as flower,
        node(flower, 0),
    ):
        with node(flower, 1) as killed, running(flower, settings) as run:
            wait_until(lambda: 1 in perplexities(folder))
            os.killpg(killed.pid, signal.SIGKILL)
            with node(flower, 1):
                run.wait(600)
        assert flower.failure() is None
    lines = told(folder)
    assert [line["completed"] for line in lines] == [True] * ROUNDS
    lost = [line["server-round"] for line in lines if len(line["clients"]) < len(NODES)]
    assert len(lost) <= 1, "it has lost more than its part of one round"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_run_goes_on_when_its_killed_superlink_is_there_again(tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "num-server-rounds": ROUNDS,
        "output-dir": str(tmp_path),
        "run-name": "run",
    }
    folder, home = tmp_path / "run", tmp_path / "flwr"
    with two_nodes(home) as flower, running(flower, settings):
        wait_until(lambda: 1 in perplexities(folder))
        # As the machine's end would: left alone, a ServerApp waits for its SuperLink.
        for name in ("flower-superlink", "flwr-serverapp"):
            for process in programs(flower, name):
                process.kill()
    left = read_past_run(folder).state.server_round
    assert 1 <= left < ROUNDS, "at most the round under way is lost"
    with two_nodes(home) as flower:
        again = run_app(flower, tmp_path, {**settings, "resume": str(folder)})
        assert flower.failure() is None, again.log[-4000:]
        run_app(flower, tmp_path, {**settings, "run-name": "undisturbed"})
    wanted, got = perplexities(tmp_path / "undisturbed"), perplexities(folder)
    assert got.keys() == wanted.keys() == set(range(ROUNDS + 1))
    for server_round, value in wanted.items():
        # Replies come in any order, in which sums are rounded.
        assert got[server_round] == pytest.approx(value, rel=1e-5)
