"""``flwr run apps/chat`` in a simulation, as its page says."""

from pathlib import Path

import pytest

from hsplit_flower.cli.local_flower import local_superlink, simulated_clients

from .flower_app import run_app


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_app_runs_at_once_and_learns(tmp_path: Path) -> None:
    with local_superlink(tmp_path / "flwr", simulation=True) as flower:
        left = run_app(flower, tmp_path, {"local-steps": 6}, simulated_clients(3), app="chat")
        assert flower.failure() is None, left.log[-6000:]
    before, after = left.perplexities
    assert after < before
    by_clients = [line for line in left.metrics if line["kind"] == "client-evaluation"]
    assert len(by_clients) == 2 and all(len(line["clients"]) == 3 for line in by_clients)
    assert "dataset" in left.json("config.json") and "chat" in left.json("config.json")
