"""Eight sessions in one pass, beside one PEFT LoRA model on the batch that they make together.

Nobody can be faster than that who keeps to the same tokens: one adapter, one optimizer, nothing to
keep apart. Cuts are the same on both sides; the one adapter has the mean of the eight ranks.
"""

from collections.abc import Iterator
from statistics import mean
from typing import Final

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target, interleave
from benchmarks.tools.sessions import (
    BatchedWorker,
    Client,
    PeftModel,
    joined,
    requests_of,
    shape_for,
    synchronise,
    take_all_cores,
    worker_half,
)

NUM_SESSIONS: Final = 8
RANKS: Final = (4, 8, 16, 32)
CUT: Final = 1
TARGET: Final = Target(">=", 0.90)


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Tokens a second of both, and their ratio; with mixed ranks, and with equal ones."""
    seed, num_threads = settings.seeds[0], take_all_cores()
    shape = shape_for(quick=settings.quick)
    requests = requests_of(shape, NUM_SESSIONS, seed)
    together = joined(requests)
    num_tokens = NUM_SESSIONS * shape.num_tokens
    for name, ranks in (
        ("ranks 4 to 32", [RANKS[i % len(RANKS)] for i in range(NUM_SESSIONS)]),
        ("ranks of 16", [16] * NUM_SESSIONS),
    ):
        half = worker_half(shape, CUT, seed)
        ours = BatchedWorker(half, [Client(cut=CUT, rank=rank) for rank in ranks], requests)
        limit = PeftModel(half, [Client(cut=CUT, rank=round(mean(ranks)))])

        def step_of_limit(limit: PeftModel = limit) -> None:
            limit.step(0, together)
            synchronise(limit.half)

        batched, single = interleave(ours.step, step_of_limit, repeats=5 if settings.quick else 7)
        yield Figure.of_repeats(f"{name}: sessions", [num_tokens / s for s in batched], "tokens/s")
        yield Figure.of_repeats(f"{name}: one model", [num_tokens / s for s in single], "tokens/s")
        yield Figure.of_repeats(
            f"{name}: share of one model's speed",
            [b / a for a, b in zip(batched, single, strict=True)],
            "1",
            TARGET,
        )
    yield Detail(name="what ran", value={"shape": shape.name, "threads": num_threads})


BENCHMARK = Benchmark(
    name="worker-limit",
    summary="Eight batched sessions, beside one PEFT model on the same tokens.",
    measure=measure,
)
