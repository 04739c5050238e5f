"""``flwr run apps/chat`` on a SuperLink: sites with texts of their own, and one without any."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from hsplit_flower.cli.local_flower import (
    background,
    flower_environment,
    free_port,
    local_superlink,
    script,
)

from .flower_app import run_app


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_supernode_without_data_is_left_out_and_the_others_train(tmp_path: Path) -> None:
    """Although it says which part of a set it has: nobody named a set."""
    configs = ["partition-id=2 num-partitions=3 name='forgotten' memory-gb=2.0"]
    for at in range(2):
        file = tmp_path / f"site-{at}.jsonl"
        rows = [{"prompt": f"Where is {at}-{n}?", "completion": f"At {n}."} for n in range(20)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        configs.append(f"data='{file}' name='site-{at}' memory-gb=2.0")
    with ExitStack() as stack:
        home = tmp_path / "flwr"
        flower = stack.enter_context(local_superlink(home, simulation=False))
        for number, config in enumerate(configs):
            command = [
                script("flower-supernode"),
                "--insecure",
                *("--superlink", flower.address),
                *("--port", str(free_port())),
                *("--node-config", config),
            ]
            log = home / f"supernode-{number}.log"
            stack.enter_context(background(command, flower_environment(home), log))
        finished = run_app(
            flower,
            tmp_path,
            {"num-server-rounds": 1, "sampling.min-available-nodes": 3},
            app="chat",
        )
        assert flower.failure() is None, finished.log[-6000:]
    assert "client forgotten is left out: ConfigError: this client has no rows" in finished.log
    (training,) = [line for line in finished.metrics if line["kind"] == "training"]
    assert set(training["clients"]) == {"site-0", "site-1"}
