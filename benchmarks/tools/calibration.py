"""How many operations a second one thread of this machine does, in either half of the model."""

import statistics
import time
from collections.abc import Iterator
from typing import final

import torch

from benchmarks.tools.clock_batches import ROWS, full_batch
from benchmarks.tools.slowed_fleet import MAX_RANK, MODEL, Speeds, serving_worker
from hsplit_flower.batches import Batch
from hsplit_flower.client.local_round import LocalRound
from hsplit_flower.costs import PartSeconds, Workload, part_seconds, trace_costs
from hsplit_flower.settings import PlanSettings, SessionSpec
from hsplit_flower.splitting import Checkpoint, Parts, load_half
from hsplit_flower.transport.streams import Stream
from hsplit_flower.types import ClientPlan, DeviceProfile, Span
from hsplit_flower.wire.messages import Forward, Loss, Reply, Request

CALIBRATION_CUT = 4
# A slowed device rests between its steps, and finds its caches cold: so it does when calibrated.
PAUSE_SECONDS = 0.3


def calibrate(num_steps: int, length: int) -> Speeds:
    """How fast one thread is in either half: medians of steps at one cut, nobody slowed."""
    workload = Workload(batch_size=ROWS, sequence_length=length)
    costs = trace_costs(Checkpoint(source=MODEL).config(), workload)
    ranks = {weight.name: MAX_RANK for weight in costs.weights}
    part = ClientPlan(span=Span(start=0, stop=CALIBRATION_CUT), ranks=ranks)
    one = DeviceProfile(memory_bytes=1.0, flops_per_second=1.0)
    flops: PartSeconds = part_seconds(costs, part, profile=one, worker=one, settings=PlanSettings())
    spec = SessionSpec(client=0, cut=CALIBRATION_CUT, ranks=ranks)
    return Speeds(
        client=flops.compute_seconds / _client_step_seconds(spec, num_steps, length),
        worker=flops.worker_seconds / _worker_step_seconds(spec, num_steps, length),
    )


@final
class _Echo(Stream):
    """Answers every step at once, so that a client's own time is all that there is."""

    def __init__(self, length: int) -> None:
        self._gradient = 1e-3 * torch.randn(ROWS, length, 128)
        self._step = 0

    def send(self, request: Request) -> None:
        self._step = request.step

    def receive(self) -> Reply:
        return Loss(step=self._step, loss_sum=1.0, num_tokens=1, gradient=self._gradient)

    def close(self) -> None:
        """Nothing is held open."""


def _client_step_seconds(spec: SessionSpec, num_steps: int, length: int) -> float:
    """Processor time of a step of the client's half."""
    half = load_half(MODEL, Parts.of_client(spec.cut, keeps_labels=False))
    used: list[float] = []

    def batches() -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(num_steps):
            batch = Batch(**full_batch(generator, length))
            time.sleep(PAUSE_SECONDS)
            began = time.thread_time()
            yield batch
            used.append(time.thread_time() - began)

    LocalRound(half, {}, spec, _Echo(length)).train(batches(), probe=False)
    return _settled(used)


def _worker_step_seconds(spec: SessionSpec, num_steps: int, length: int) -> float:
    """Processor time of a step of the worker's half, on its own thread."""
    worker = serving_worker()
    generator = torch.Generator().manual_seed(0)
    used: list[float] = []
    try:
        worker.load_update({})
        token = worker.open(spec)
        for step in range(1, num_steps + 1):
            fields = full_batch(generator, length)
            hidden = torch.randn(ROWS, length, 128, generator=generator)
            request = Forward(
                step=step,
                hidden=hidden,
                labels=fields["labels"],
                attention_mask=fields["attention_mask"],
            )
            time.sleep(PAUSE_SECONDS)
            used.append(worker.used_seconds(token, request))
    finally:
        worker.stop()
    return _settled(used)


def _settled(seconds: list[float]) -> float:
    """The median, without the steps in which memory is taken and code is warmed up."""
    return statistics.median(seconds[len(seconds) // 4 :])
