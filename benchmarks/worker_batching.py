"""Eight sessions of mixed cuts and ranks in one pass, beside the same eight one after another.

The other side is what is there without this project: PEFT's adapters on the same half, of which one
is active at a time, since PEFT trains no two in one batch. Both sides run the blocks above each
client's cut, norm, head and loss, go back, and take every client's optimizer step.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target, interleave
from benchmarks.tools.sessions import (
    BatchedWorker,
    Client,
    PeftModel,
    requests_of,
    shape_for,
    take_all_cores,
    worker_half,
)
from hsplit_flower.wire.messages import Forward

NUM_SESSIONS: Final = 8
RANKS: Final = (4, 8, 16, 32)
CPU_TARGET: Final = Target(">=", 1.2)
GPU_TARGET: Final = Target(">=", 3.0)


def clients_for(num_blocks: int) -> list[Client]:
    """Cuts from the first block to the middle, each rank at two of them."""
    cuts = [1 + i * (num_blocks // 2 - 1) // (NUM_SESSIONS - 1) for i in range(NUM_SESSIONS)]
    return [Client(cut=cut, rank=RANKS[i % len(RANKS)]) for i, cut in enumerate(cuts)]


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Seconds of a step of all eight both ways, and their ratio."""
    seed, num_threads = settings.seeds[0], take_all_cores()
    shape = shape_for(quick=settings.quick)
    clients = clients_for(shape.num_blocks)
    half = worker_half(shape, 1, seed)
    requests = requests_of(shape, NUM_SESSIONS, seed)
    ours = BatchedWorker(half, clients, requests)
    theirs = PeftModel(half, clients)
    yield Figure(
        name="losses apart, relative", value=losses_apart(ours, theirs, requests), unit="1"
    )
    batched, separate = interleave(
        ours.step, lambda: theirs.step_all(requests), repeats=5 if settings.quick else 7
    )
    yield Figure.of_repeats("one pass for all", batched, "s")
    yield Figure.of_repeats("one after another, PEFT", separate, "s")
    yield Figure.of_repeats(
        "times as fast",
        [b / a for a, b in zip(batched, separate, strict=True)],
        "1",
        GPU_TARGET if shape.device == "cuda" else CPU_TARGET,
    )
    yield Detail(
        name="what ran",
        value={
            "shape": shape.name,
            "threads": num_threads,
            "cuts": [client.cut for client in clients],
            "ranks": [client.rank for client in clients],
        },
    )


def losses_apart(ours: BatchedWorker, theirs: PeftModel, requests: Sequence[Forward]) -> float:
    """How far both sides' losses are from each other, from the same adapters."""
    for number, session in enumerate(ours.sessions):
        theirs.load(number, session)
    wanted = [theirs.step(number, request) for number, request in enumerate(requests)]
    got = [reply.loss_sum for reply in ours.step()]
    return max(abs(a - b) / abs(b) for a, b in zip(got, wanted, strict=True))


BENCHMARK = Benchmark(
    name="worker-batching",
    summary="Eight clients' steps in one pass, beside one after another through PEFT.",
    measure=measure,
)
