"""Flower's own parts are killed under a run: a SuperNode while it trains, and the SuperLink."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from tests.apps.flower_app import run_app
from tests.faults.flower_run import (
    NODES,
    SETTINGS,
    assert_same_perplexities,
    perplexities,
    programs,
    running,
)
from tests.waiting import wait_until

ROUNDS = 3
MOMENTS = {
    "between rounds": ("", 0.0),
    "before the first step": ("round 2: asked to train", 0.0),
    "while it steps": ("round 2: asked to train", 5.0),
    "while its reply is collected": ("round 2: left this site", 0.0),
}
"""What is in the second node's log by then, and for how many seconds."""
# So that the second round's steps last longer than it takes to begin them.
LASTING = {"local-steps": 20}


def wait_for(moment: str, flower: LocalFlower, folder: Path) -> None:
    """Until a run is at this moment of its second round, or between the first and that."""
    said, seconds = MOMENTS[moment]
    log = flower.home / "supernode-1.log"
    wait_until(lambda: 1 in perplexities(folder))
    wait_until(lambda: said in log.read_text(encoding="utf-8", errors="replace"))
    time.sleep(seconds)
    assert 2 not in perplexities(folder), "that round is over already"


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


def told(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "training"]


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_node_that_is_killed_and_comes_back_loses_its_part_of_a_round(
    tmp_path: Path, moment: str
) -> None:
    settings = {
        **SETTINGS,
        **LASTING,
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
            wait_for(moment, flower, folder)
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
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_goes_on_when_its_killed_superlink_is_there_again(
    tmp_path: Path, moment: str
) -> None:
    settings = {
        **SETTINGS,
        **LASTING,
        "num-server-rounds": ROUNDS,
        "output-dir": str(tmp_path),
        "run-name": "run",
    }
    folder, home = tmp_path / "run", tmp_path / "flwr"
    with two_nodes(home) as flower, running(flower, settings):
        wait_for(moment, flower, folder)
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
    assert_same_perplexities(folder, tmp_path / "undisturbed", ROUNDS)
