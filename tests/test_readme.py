"""The code that the README shows, run as it stands there, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
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


def code_named(name: str) -> str:
    """The python block of the README that begins with ``# name``."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# {name}\n"))


@pytest.mark.timeout(240)
def test_the_plug_in_example_trains_and_evaluates(tmp_path: Path):
    for name in ("server_app.py", "client_app.py"):
        (tmp_path / name).write_text(code_named(name), encoding="utf-8")
    (tmp_path / "simulate.py").write_text(SIMULATION, encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, "simulate.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "FLWR_HOME": str(tmp_path / "flwr")},
        capture_output=True,
        text=True,
        check=False,
    )
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, output
    evaluated = finished.stdout.splitlines()[-1]
    perplexities = [float(value) for value in re.findall(r"'perplexity': ([\d.]+)", evaluated)]
    assert len(perplexities) == 2, output
    assert perplexities[1] < perplexities[0]
