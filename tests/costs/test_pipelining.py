"""The seconds of a step whose micro-batches overlap, against letting each of them run."""

import random
from collections import deque

import pytest

from hsplit_flower.costs import PartSeconds
from hsplit_flower.costs.pipelining import pipelined


def run_through(
    whole: PartSeconds, num_parts: int, in_flight: int, latency_seconds: float
) -> float:
    """Let each micro-batch pass client, link and worker, each of which serves one at a time."""
    moving = whole.link_seconds - latency_seconds
    stages = [t / num_parts for t in (whole.compute_seconds, moving, whole.worker_seconds)]
    free, under_way, done = [0.0, 0.0, 0.0], deque[float](), 0.0
    for _ in range(num_parts):
        now = under_way.popleft() if len(under_way) == in_flight else 0.0
        for stage, seconds in enumerate(stages):
            free[stage] = max(free[stage], now) + seconds
            now = free[stage]
        done = now + latency_seconds
        under_way.append(done)
    return done


@pytest.mark.parametrize("seed", range(50))
def test_it_is_what_running_them_through_takes(seed: int) -> None:
    draw = random.Random(seed)
    latency = draw.choice([0.0, draw.uniform(0.0, 0.3)])
    whole = PartSeconds(
        compute_seconds=draw.uniform(0.0, 1.0),
        link_seconds=latency + draw.uniform(0.0, 1.0),
        worker_seconds=draw.uniform(0.0, 1.0),
    )
    num_parts, in_flight = draw.randint(1, 16), draw.randint(1, 16)
    got = pipelined(whole, num_parts=num_parts, in_flight=in_flight, latency_seconds=latency)
    wanted = run_through(whole, num_parts, in_flight, latency)
    total = got.compute_seconds + got.link_seconds + got.worker_seconds
    one_part = sum((whole.compute_seconds, whole.link_seconds, whole.worker_seconds)) - latency
    one_part = one_part / num_parts + latency
    assert got.worker_seconds == whole.worker_seconds
    # A last group that is not full is rounded up by no more than a part.
    assert total == pytest.approx(wanted, abs=one_part + 1e-9)


@pytest.mark.parametrize("in_flight", [1, 4])
def test_a_whole_batch_is_as_it_was(in_flight: int) -> None:
    whole = PartSeconds(compute_seconds=0.4, link_seconds=0.3, worker_seconds=0.2)
    got = pipelined(whole, num_parts=1, in_flight=in_flight, latency_seconds=0.1)
    assert got.compute_seconds == pytest.approx(0.4)
    assert got.link_seconds == pytest.approx(0.3)


def test_a_slow_link_hides_the_computing() -> None:
    whole = PartSeconds(compute_seconds=0.4, link_seconds=1.0, worker_seconds=0.4)
    got = pipelined(whole, num_parts=8, in_flight=8, latency_seconds=0.0)
    assert sum((got.compute_seconds, got.link_seconds, got.worker_seconds)) == pytest.approx(1.1)
