"""The app that the guide's project page shows, run as it stands there, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.documents import GUIDE, code_named
from tests.ray_starts import RAY_IS_LATE, RAY_STARTS

PATIENCE_SECONDS = 150
SIMULATION = """
from flwr.simulation import run_simulation
import client_app, server_app

run_simulation(
    server_app=server_app.app,
    client_app=client_app.app,
    num_supernodes=2,
    backend_config={"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": 2}},
)
"""


def simulated(folder: Path) -> subprocess.CompletedProcess[str]:
    """The simulation's end; where Ray was late, Flower waits for clients that never come."""
    command = [sys.executable, "simulate.py"]
    env = {**os.environ, "PYTHONPATH": str(folder), "FLWR_HOME": str(folder / "flwr")}
    for attempt in range(1, RAY_STARTS + 1):
        try:
            return subprocess.run(
                command,
                cwd=folder,
                env=env,
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE_SECONDS,
            )
        except subprocess.TimeoutExpired as late:
            said = b"".join(each for each in (late.stdout, late.stderr) if each).decode()
            if RAY_IS_LATE not in said or attempt == RAY_STARTS:
                pytest.fail(f"the simulation did not end within {PATIENCE_SECONDS} s:\n{said}")
    raise AssertionError("unreachable")


def test_the_workers_of_an_own_project_are_as_they_are_said_to_be() -> None:
    made: dict[str, Any] = {}
    exec(code_named(GUIDE / "first-project.md", "workers"), made)
    assert made["here_over_tls"].is_secured and made["here_over_tls"].advertised_host == "SERVER"
    assert made["on_its_own"].is_secured
    assert made["on_its_own"].operator_token_file.endswith("operator.token")


@pytest.mark.long
@pytest.mark.timeout(RAY_STARTS * PATIENCE_SECONDS + 30)
def test_the_plug_in_example_trains_and_evaluates(tmp_path: Path):
    for name in ("server_app.py", "client_app.py"):
        (tmp_path / name).write_text(code_named(GUIDE / "first-project.md", name), encoding="utf-8")
    (tmp_path / "simulate.py").write_text(SIMULATION, encoding="utf-8")
    finished = simulated(tmp_path)
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, output
    evaluated = finished.stdout.splitlines()[-1]
    perplexities = [float(value) for value in re.findall(r"'perplexity': ([\d.]+)", evaluated)]
    assert len(perplexities) == 2, output
    assert perplexities[1] < perplexities[0]
