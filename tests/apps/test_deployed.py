"""The app on a SuperLink with two SuperNodes, as in a deployment; nothing is simulated."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hsplit_flower.cli.local_flower import (
    LocalFlower,
    background,
    flower_environment,
    local_superlink,
    script,
)

from .flower_app import run_app


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def deployment(home: Path, node_configs: list[str]) -> Iterator[LocalFlower]:
    """A SuperLink and a SuperNode for each node config; all ended afterwards."""
    with ExitStack() as stack:
        flower = stack.enter_context(local_superlink(home, simulation=False))
        for number, node_config in enumerate(node_configs):
            command = [
                script("flower-supernode"),
                "--insecure",
                "--superlink",
                flower.address,
                "--port",
                str(free_port()),
                "--node-config",
                node_config,
            ]
            log = home / f"supernode-{number}.log"
            stack.enter_context(background(command, flower_environment(home), log))
        yield flower


@pytest.mark.timeout(400)
def test_the_app_runs_unchanged_on_two_supernodes(tmp_path: Path):
    whole = "partition-id=0 num-partitions=2 memory-gb=2.0 flops=2e10 rtt-ms=1.0"
    weak = "partition-id=1 num-partitions=2 memory-gb=0.03 flops=5e9 rtt-ms=1.0"
    with deployment(tmp_path / "flwr", [whole, weak]) as flower:
        finished = run_app(
            flower,
            tmp_path,
            {
                "simulation.fleet": "",
                "sampling.fraction-evaluate": 1.0,
                "training.sequence-length": 160,
                "num-server-rounds": 1,
            },
        )
    before, after = finished.perplexities
    assert after < before
    plans = finished.json("plan.json")
    assert len(plans) == 2
    assert len({part["span"]["stop"] for part in plans.values()}) == 2, plans
    rounds = [line for line in finished.metrics if "clients" in line]
    assert [line["completed"] for line in rounds] == [True]
