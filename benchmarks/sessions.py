"""What a worker holds, and how fast it is, with one session on its base and with many.

Memory is that of the tensors: what is alive between steps, and the most that is alive within one in
which all sessions share a pass. Speed is through the worker's own queue and scheduler.
"""

import gc
from collections.abc import Iterator, Sequence
from statistics import median
from time import perf_counter
from typing import Final

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.tools.sessions import (
    BatchedWorker,
    Client,
    Shape,
    ranks_of,
    requests_of,
    shape_for,
    take_all_cores,
    worker_half,
)
from hsplit_flower.costs import Workload, trace_costs
from hsplit_flower.costs.metering import LiveBytes
from hsplit_flower.costs.worker_peak import worker_memory, worker_memory_without_sessions
from hsplit_flower.settings import PlanSettings, SessionSpec
from hsplit_flower.splitting import Half
from hsplit_flower.types import Labels
from hsplit_flower.wire.messages import Forward
from hsplit_flower.worker.worker import SplitWorker

COUNTS: Final = (1, 2, 4, 8, 16, 32, 64)
# Of these in a quick run.
FEWER: Final = 4
CUT: Final = 1
RANK: Final = 8
HELD_VALUES: Final = 3
"""Of a factor: itself and Adam's two moments, all float32."""
SLOPE_TARGET: Final = Target("<=", 0.10)
# A twentieth is left to the clock.
SPEED_TARGET: Final = Target(">=", 0.95)


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Memory and speed for each number of sessions, and what is promised of them."""
    shape = shape_for(quick=True)
    seed, num_threads = settings.seeds[0], take_all_cores()
    half = worker_half(shape, CUT, seed)
    counts = COUNTS[:FEWER] if settings.quick else COUNTS
    yield from _memory(shape, half, counts, seed)
    repeats = 3 if settings.quick else 9
    rates = {
        count: [shape.num_tokens * count / s for s in seconds]
        for count, seconds in _seconds(shape, half, counts, repeats, seed).items()
    }
    for count, rate in rates.items():
        yield Figure.of_repeats(f"{count} sessions: speed", rate, "tokens/s")
    medians = [median(rate) for rate in rates.values()]
    lowest = min(rate / max(medians[: i + 1]) for i, rate in enumerate(medians))
    yield Figure(
        name="slowest, of the fastest with fewer", value=lowest, unit="1", target=SPEED_TARGET
    )
    yield Detail(name="what ran", value={"shape": shape.name, "threads": num_threads})


def _memory(
    shape: Shape, half: Half, counts: Sequence[int], seed: int
) -> Iterator[Figure | Detail]:
    base = sum(p.nbytes for p in (*half.model.parameters(), *half.model.buffers()))
    yield Figure(name="base, held once", value=base / 1e6, unit="MB")
    held, peaks = {}, {}
    for count in counts:
        held[count], peaks[count] = memory_of(shape, half, count, seed)
        yield Figure(name=f"{count} sessions: held", value=held[count] / 1e6, unit="MB")
        yield Figure(name=f"{count} sessions: peak", value=peaks[count] / 1e6, unit="MB")
    predictions = predicted_slopes(shape, half)
    for name, measured, predicted in zip(("held", "peak"), (held, peaks), predictions, strict=True):
        slope = (measured[counts[-1]] - measured[counts[0]]) / (counts[-1] - counts[0])
        yield Figure(name=f"{name}: a session more", value=slope / 1e6, unit="MB")
        yield Figure(
            name=f"{name}: off the prediction",
            value=abs(slope / predicted - 1),
            unit="1",
            target=SLOPE_TARGET,
        )
    yield Detail(name="predicted slopes in bytes", value=predictions)


def memory_of(shape: Shape, half: Half, count: int, seed: int) -> tuple[int, int]:
    """Bytes that sessions hold between steps, and the most within a step, beside the base."""
    requests = requests_of(shape, count, seed)
    clients = [Client(cut=CUT, rank=RANK)] * count
    outside = [tensor for request in requests for tensor in (request.hidden, request.labels)]
    ignored = [*half.model.parameters(), *half.model.buffers()]
    with LiveBytes(ignore=[*ignored, *(t for t in outside if t is not None)]) as live:
        worker = BatchedWorker(half, clients, requests)
        for _ in range(2):
            worker.step()
        gc.collect()
        held = live.now_bytes
        live.reset_peak()
        worker.step()
        return held, live.peak_bytes


def predicted_slopes(shape: Shape, half: Half) -> tuple[float, float]:
    """What one session more is reckoned to hold, and to add to the peak of a shared pass.

    Held are factors, moments, and the gradient that was replied, in case it is asked for again. The
    peak is at the head, when all that the blocks keep is there; the gradients of the factors are
    not yet, but a copy of the factors, side by side with the others', is.
    """
    workload = Workload(
        batch_size=shape.rows,
        sequence_length=shape.seq,
        dtype_bytes=shape.dtype.itemsize,
        wire_dtype_bytes=shape.dtype.itemsize,
    )
    costs = trace_costs(shape.config(), workload)
    settings = PlanSettings(labels=Labels.SERVER, min_cut=CUT)
    ranks = ranks_of(half, Client(cut=CUT, rank=RANK))
    alone = worker_memory(costs, sessions=[(CUT, ranks)], settings=settings)
    nobody = worker_memory_without_sessions(costs, settings=settings)
    values = sum(w.parameters_per_rank * RANK for w in costs.weights if w.name in ranks)
    step = alone.activations_bytes - nobody.activations_bytes
    head = costs.head.saved_bytes + costs.head.working_bytes
    held = HELD_VALUES * 4 * values + costs.hidden_bytes
    return held, alone.adapters_bytes + step + head + costs.hidden_bytes


def _seconds(
    shape: Shape, half: Half, counts: Sequence[int], repeats: int, seed: int
) -> dict[int, list[float]]:
    """Seconds of a step of all sessions, for each number of them, measured in turns."""
    requests = requests_of(shape, counts[-1], seed)
    worker = SplitWorker(half, model=shape.name, memory_bytes=8e9, flops_per_second=1e11)
    try:
        tokens = [worker.open(_spec(half, number)) for number in range(counts[-1])]
        steps = dict.fromkeys(tokens, 0)
        seconds: dict[int, list[float]] = {count: [] for count in counts}
        for repeat in range(repeats + 1):
            for count in counts:
                taken = _step(worker, tokens[:count], requests, steps)
                if repeat:
                    seconds[count].append(taken)
        return seconds
    finally:
        worker.stop()


def _spec(half: Half, number: int) -> SessionSpec:
    ranks = ranks_of(half, Client(cut=CUT, rank=RANK))
    return SessionSpec(client=number, cut=CUT, ranks=ranks, seed=number)


def _step(
    worker: SplitWorker, tokens: Sequence[str], requests: Sequence[Forward], steps: dict[str, int]
) -> float:
    started = perf_counter()
    futures = []
    for token, request in zip(tokens, requests, strict=False):
        steps[token] += 1
        following = Forward(step=steps[token], hidden=request.hidden, labels=request.labels)
        futures.append(worker.submit(token, following))
    for future in futures:
        future.result()
    return perf_counter() - started


BENCHMARK = Benchmark(
    name="sessions",
    summary="A worker's memory and speed with 1 to 64 sessions on one base.",
    measure=measure,
)
