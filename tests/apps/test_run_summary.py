"""Who had no part in a run, and what everybody else took, is on disk when it ends."""

import csv
import platform
from pathlib import Path
from typing import Any

import pytest

from hsplit_flower.reports import Run, client_totals, read_run

from .one_process import run_here

pytestmark = pytest.mark.usefixtures("app_on_the_path")
LEFT_OUT, SMALL, LARGE = (f"{platform.node()}/{partition}" for partition in range(3))


def test_a_run_that_leaves_somebody_out_explains_itself(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Three clients, of which the first does not hold the smallest cut."""
    changed = {
        "simulation.fleet": "0.002GB,0.15GB,0.3GB",
        "num-server-rounds": 2,
        "local-steps": 4,
        "sampling.fraction-evaluate": 1.0,
    }
    folder = run_here(settings, tmp_path, changed, num_clients=3)
    text = (folder / "summary.md").read_text(encoding="utf-8")
    assert f"| {LEFT_OUT} | 1-2 | it has 2 MB, its smallest part needs" in text
    with open(folder / "clients.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3 * 4
    run = read_run(folder)
    assert [client.name for client in client_totals(run)] == [LEFT_OUT, SMALL, LARGE]
    left_out_with_the_reason(run)
    all_is_measured(run)


def left_out_with_the_reason(run: Run) -> None:
    assert len(run.training) == len(run.client_evaluations) == 2
    for line in (*run.training, *run.client_evaluations):
        assert set(line.clients) == {SMALL, LARGE}
        one = line.left_out[LEFT_OUT]
        assert one.kind == "memory" and one.budget_bytes == 2e6
        assert one.needed_bytes is not None and one.needed_bytes > 2e6
        assert "it has 2 MB, its smallest part needs" in one.reason
    assert run.plan is not None
    assert run.plan.left_out[LEFT_OUT].reason == run.training[-1].left_out[LEFT_OUT].reason
    assert {part.node for part in run.plan.clients.values()} == {2, 3}
    assert all(part.why for part in run.plan.clients.values())


def all_is_measured(run: Run) -> None:
    for line in run.training:
        for client in line.clients.values():
            assert client.counts and client.num_steps == 4
            assert min(client.worker_up_bytes, client.worker_down_bytes) > 10_000
            assert min(client.flower_up_bytes, client.flower_down_bytes) > 1_000
            parts = (client.computing_seconds, client.worker_seconds, client.link_seconds)
            assert all(part > 0 for part in parts)
            assert sum(parts) == pytest.approx(client.seconds)
            everything = client.setup_seconds + client.seconds + client.others_seconds
            assert client.seconds < everything <= line.seconds
            assert client.loss_before is not None and client.loss_after is not None
            assert 0 < client.peak_bytes <= client.budget_bytes
            assert client.predicted_bytes > 0 and client.worker.startswith("127.0.0.1:")
    for evaluation in run.client_evaluations:
        for found in evaluation.clients.values():
            assert found.perplexity is not None and found.num_tokens > 0
            assert found.worker_up_bytes > 0
