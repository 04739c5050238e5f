"""The benchmarks of the worker, on a model that is trained in a moment."""

from pathlib import Path

import pytest
import torch

from benchmarks import sessions, worker_batching, worker_limit
from benchmarks.harness import Benchmark, Detail, Figure, Settings
from benchmarks.tools.sessions import (
    BatchedWorker,
    Client,
    PeftModel,
    Shape,
    joined,
    requests_of,
    worker_half,
)

pytestmark = pytest.mark.long

TINY = Shape(
    name="tiny",
    width=32,
    feed_forward=48,
    num_blocks=4,
    num_heads=2,
    num_key_value_heads=2,
    vocabulary=40,
    rows=2,
    seq=8,
    dtype=torch.float32,
    device="cpu",
)


@pytest.fixture
def figures(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, Figure]:
    """What a benchmark measures on the tiny shape, by name."""
    benchmark: Benchmark = request.param
    for module in (sessions, worker_batching, worker_limit):
        monkeypatch.setattr(module, "shape_for", lambda *, quick: TINY)
    monkeypatch.setattr(sessions, "COUNTS", (1, 2, 5))
    settings = Settings(quick=True, seeds=(0,), scratch=tmp_path, shared_data=tmp_path)
    found = list(benchmark.measure(settings))
    assert any(isinstance(item, Detail) for item in found)
    return {item.name: item for item in found if isinstance(item, Figure)}


@pytest.mark.parametrize("figures", [worker_batching.BENCHMARK], indirect=True)
def test_both_ways_of_serving_eight_sessions_compute_the_same(figures: dict[str, Figure]) -> None:
    assert figures["losses apart, relative"].value < 1e-5
    ratio = figures["times as fast"]
    assert ratio.target is not None
    assert ratio.spread is not None
    assert ratio.spread.repeats >= 5


@pytest.mark.parametrize("figures", [worker_limit.BENCHMARK], indirect=True)
def test_the_limit_is_measured_with_mixed_and_with_equal_ranks(figures: dict[str, Figure]) -> None:
    shares = [figure for name, figure in figures.items() if name.endswith("one model's speed")]
    assert len(shares) == 2
    assert all(share.target is not None and share.value > 0 for share in shares)


@pytest.mark.parametrize("figures", [sessions.BENCHMARK], indirect=True)
def test_memory_grows_by_what_is_predicted(figures: dict[str, Figure]) -> None:
    assert figures["held: off the prediction"].value < 0.01
    assert figures["peak: off the prediction"].value < 0.10
    assert figures["5 sessions: speed"].value > 0


def test_the_one_model_on_the_joined_batch_sees_the_same_tokens() -> None:
    half = worker_half(TINY, 1, 0)
    requests = requests_of(TINY, 3, 0)
    ours = BatchedWorker(half, [Client(cut=1, rank=2)] * 3, requests)
    limit = PeftModel(half, [Client(cut=1, rank=2)])
    # Nobody's adapters change anything before the first step.
    wanted = limit.step(0, joined(requests))
    assert sum(reply.loss_sum for reply in ours.step()) == pytest.approx(wanted, rel=1e-5)
    shared = {p.data_ptr() for p in half.model.parameters()}
    held = {p.data_ptr() for p in limit.half.model.parameters()}
    assert shared <= held, "both sides read the same base"
