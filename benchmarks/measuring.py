"""What a step's measurements take, beside the step.

Both are timed by themselves: the step as it is, measurements and all, and what it does to measure,
many times over on the messages of such a step. Their difference would be lost in what a step
varies by.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import Final

import torch

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.step_overhead import shape
from benchmarks.tools.split_pair import (
    SteppedRound,
    Way,
    full_batch,
    load_client,
    save_random_model,
    worker_process,
)
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import read_architecture
from hsplit_flower.transport.traffic import TrafficMeter
from hsplit_flower.wire.messages import Loss

RANK: Final = 8
TARGET: Final = Target("<=", 0.01)
# A step of one exchange, as often as makes a time that a clock can tell.
NUM_TRIES: Final = 2000


@dataclass(frozen=True, kw_only=True)
class _Noted:
    """A request with its time, as both sides note one."""

    request: object
    seconds: float


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Seconds of a step and of its measurements, and their ratio."""
    quick, seed = settings.quick, settings.seeds[0]
    torch.set_num_threads(1)
    config = shape(quick=quick)
    folder = save_random_model(config, settings.scratch / "model", seed)
    batch = full_batch(config.vocab_size, 2 if quick else 8, 64 if quick else 128, seed)
    ranks = {weight.name: RANK for weight in read_architecture(config).weights}
    spec = SessionSpec(client=0, cut=config.n_layer // 4, ranks=ranks)
    with worker_process(folder, num_threads=1) as worker:
        half = load_client(folder, spec)
        with closing(
            SteppedRound(worker, half, spec, Way(address=worker.address), batch)
        ) as stepped:
            stepped.step()
            steps = [stepped.step() for _ in range(5 if quick else 15)]
    measuring = [measuring_seconds() for _ in range(5)]
    step = median(steps)
    yield Figure.of_repeats("a step", steps, "s")
    yield Figure.of_repeats("its measurements", [one * 1e6 for one in measuring], "µs")
    yield Figure.of_repeats(
        "share of a step that measuring takes", [one / step for one in measuring], "", TARGET
    )
    yield Detail(name="exchanges a step", value=1)


def measuring_seconds() -> float:
    """What both sides do in one exchange to measure it."""
    meter, reply = TrafficMeter(), Loss(step=1, loss_sum=1.0, num_tokens=1)
    started = perf_counter()
    for _ in range(NUM_TRIES):
        sent = _Noted(request=reply, seconds=perf_counter())
        meter.sent(1)
        came = _Noted(request=sent, seconds=perf_counter())
        answer = replace(reply, worker_seconds=perf_counter() - came.seconds)
        before = perf_counter()
        now = perf_counter()
        meter.received(1)
        meter.waited(
            now - before,
            under_way_seconds=now - sent.seconds,
            worker_seconds=answer.worker_seconds,
        )
    return (perf_counter() - started) / NUM_TRIES


BENCHMARK = Benchmark(
    name="measuring",
    summary="What measuring bytes and seconds takes of a training step.",
    measure=measure,
)
