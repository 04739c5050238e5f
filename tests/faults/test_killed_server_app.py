"""A ServerApp that is killed while its clients train, on a real SuperLink with real SuperNodes."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from hsplit_flower.cli.local_flower import LocalFlower
from hsplit_flower.server.past_run import read_past_run
from hsplit_flower.settings import Certificates
from tests.apps.flower_app import APPS, TINY, run_app
from tests.apps.test_deployed import deployment
from tests.transport.parties import Parties

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
    # So that clients give up soon what died with the ServerApp.
    "link.patience-seconds": 2,
}


def perplexities(folder: Path) -> dict[int, float]:
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {row["server-round"]: row["perplexity"] for row in rows if "perplexity" in row}


def wait_until(is_so: Callable[[], bool], seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)


def server_apps(flower: LocalFlower) -> list[psutil.Process]:
    """The processes that run ServerApps of this SuperLink."""
    own = [p for p in psutil.process_iter(["cmdline", "environ"]) if _is_of(p, flower)]
    return [p for p in own if any("flwr-serverapp" in part for part in p.info["cmdline"] or ())]


def _is_of(process: psutil.Process, flower: LocalFlower) -> bool:
    environment = process.info["environ"] or {}
    return bool(environment.get("FLWR_HOME") == str(flower.home))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_it_goes_on_from_its_folder_as_if_it_had_lived(tmp_path: Path) -> None:
    known = Parties(tmp_path)
    files = Certificates(**known.server.files, ssl_ca_certfile=known.authority.certfile)
    with deployment(tmp_path / "flwr", files, NODES) as flower:
        killed = {**SETTINGS, "output-dir": str(tmp_path), "run-name": "killed"}
        text = " ".join(f"{key}={json.dumps(value)}" for key, value in killed.items())
        command = flower.command(APPS / "nlg", ["--run-config", text])
        folder = tmp_path / "killed"
        with subprocess.Popen(
            command, env=flower.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as running:
            wait_until(lambda: 1 in perplexities(folder))
            (app,) = server_apps(flower)
            app.send_signal(signal.SIGKILL)
            running.wait()
        assert flower.failure() is not None
        left = read_past_run(folder).state.server_round
        assert 1 <= left < SETTINGS["num-server-rounds"], "at most the round under way is lost"
        again = run_app(flower, tmp_path, {**killed, "resume": str(folder)})
        assert flower.failure() is None, again.log[-4000:]
        run_app(flower, tmp_path, {**SETTINGS, "run-name": "undisturbed"})
    wanted, got = perplexities(tmp_path / "undisturbed"), perplexities(folder)
    assert got.keys() == wanted.keys() == {0, 1, 2}
    for server_round, value in wanted.items():
        # Replies come in any order, in which sums are rounded.
        assert got[server_round] == pytest.approx(value, rel=1e-5)
