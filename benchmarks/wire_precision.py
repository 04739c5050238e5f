"""What narrower types on the wire do to what is learnt: perplexity after the same training.

llama-tiny, one client and a worker in one process, the library's own messages between them. Every
type sees the same batches, ranks and fresh factors, seed by seed; evaluation is in float32. The
data set is E2E where it lies beside the project, else the built-in restaurants.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import Any, Final

import torch

from benchmarks.harness import Benchmark, Detail, Figure, Settings
from hsplit_flower.adapters import LowRank
from hsplit_flower.batches import Batch
from hsplit_flower.client.local_round import LocalRound
from hsplit_flower.data import batches, encode_examples, load_examples, pad_token_id
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Half, Parts, load_half, load_tokenizer
from hsplit_flower.transport.streams import InProcessStream
from hsplit_flower.types import Labels, WireType
from hsplit_flower.worker import SplitWorker

MODEL: Final = "llama-tiny"
CUT: Final = 3
RANK: Final = 8
# A scale of 8.
ALPHA: Final = 64.0
NUM_STEPS: Final = 60
BATCH: Final = 16
MAX_LENGTH: Final = 192
EVALUATION_EXAMPLES: Final = 240
WAYS: Final = (
    (WireType.FLOAT32, WireType.FLOAT32),
    (WireType.BFLOAT16, WireType.BFLOAT16),
    (WireType.INT8, WireType.FLOAT32),
    (WireType.FLOAT32, WireType.INT8),
    (WireType.INT8, WireType.BFLOAT16),
    (WireType.INT8, WireType.INT8),
)


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Perplexity of each way on the dev set, and its distance from float32, seed by seed."""
    quick = settings.quick
    torch.set_num_threads(1)
    e2e = settings.shared_data / "e2e"
    data = str(e2e) if e2e.is_dir() else "restaurants"
    training, evaluation = _encoded(data, "train"), _encoded(data, "dev")
    evaluation = evaluation[:: max(1, len(evaluation) // (16 if quick else EVALUATION_EXAMPLES))]
    num_steps = 3 if quick else NUM_STEPS
    ways = WAYS[::5] if quick else WAYS
    perplexities: dict[tuple[WireType, WireType], list[float]] = {way: [] for way in ways}
    for seed in settings.seeds[: 1 if quick else None]:
        # In turns, so that an end of the time leaves all ways with the same seeds.
        for way in ways:
            perplexities[way].append(
                trained_perplexity(way, training, evaluation, num_steps=num_steps, seed=seed)
            )
    for way, values in perplexities.items():
        name = f"hidden states {way[0].value}, gradients {way[1].value}"
        yield Figure.of_repeats(f"{name}: perplexity", values, "1")
        change = [
            100.0 * (value / plain - 1.0)
            for value, plain in zip(values, perplexities[WAYS[0]], strict=True)
        ]
        yield Figure.of_repeats(f"{name}: change", change, "%")
    yield Detail(
        name="training",
        value={
            "data": "E2E" if e2e.is_dir() else data,
            "steps": num_steps,
            "batch": BATCH,
            "cut": CUT,
            "rank": RANK,
            "seeds": list(settings.seeds),
            "perplexities": {f"{a.value}/{b.value}": v for (a, b), v in perplexities.items()},
        },
    )


def trained_perplexity(
    way: tuple[WireType, WireType],
    training: list[Any],
    evaluation: list[Any],
    *,
    num_steps: int,
    seed: int,
    batch: int = BATCH,
    **more: Any,
) -> float:
    """Perplexity on the evaluation set after training with these types on the wire.

    ``more`` is what the session is set to besides.
    """
    keeps_labels = more.get("labels") is Labels.CLIENT
    pad_id = pad_token_id(load_tokenizer(MODEL))
    num_blocks = load_half(MODEL, Parts.of_client(1, keeps_labels=False)).architecture.num_blocks
    worker = SplitWorker(
        load_half(MODEL, Parts.of_worker(CUT, num_blocks)),
        model=MODEL,
        memory_bytes=1e12,
        flops_per_second=1e12,
    )
    try:
        half = load_half(MODEL, Parts.of_client(CUT, keeps_labels=keeps_labels))
        ranks = {weight.name: RANK for weight in half.architecture.weights}
        spec = SessionSpec(
            client=0,
            cut=CUT,
            ranks=ranks,
            lora_alpha=ALPHA,
            learning_rate=2e-3,
            seed=seed,
            wire_type=way[0],
            wire_gradient_type=way[1],
            **more,
        )
        token = worker.open(spec)
        drawn = batches(training, batch, steps=num_steps, seed=seed, pad_id=pad_id)
        with closing(_stream(worker, token, way)) as stream:
            local_round = LocalRound(half, {}, spec, stream)
            below = local_round.train((Batch(**fields) for fields in drawn), probe=False).updates
            local_round.release_half()
        above = worker.collect(token).updates
        worker.close(token)
        worker.load_update({**below, **above})
        spec = SessionSpec(client=0, cut=CUT, train=False, labels=spec.labels)
        return _evaluated(worker, half, below, spec, batches(evaluation, BATCH, pad_id=pad_id))
    finally:
        worker.stop()


def _evaluated(
    worker: SplitWorker,
    half: Half,
    below: Mapping[str, LowRank],
    spec: SessionSpec,
    given: Iterable[Mapping[str, Any]],
) -> float:
    """Perplexity in a session that trains nothing, in float32."""
    token = worker.open(spec)
    with closing(_stream(worker, token, WAYS[0])) as stream:
        evaluated = LocalRound(half, dict(below), spec, stream).evaluate(
            Batch(**fields) for fields in given
        )
    return evaluated.loss.perplexity


def _stream(worker: SplitWorker, token: str, way: tuple[WireType, WireType]) -> InProcessStream:
    return InProcessStream(lambda request: worker.exchange(token, request), *way)


def _encoded(data: str, split: str) -> list[Any]:
    examples = list(islice(load_examples(data, split), 4000))
    tokenizer = load_tokenizer(MODEL)
    return encode_examples(
        examples, tokenizer, max_length=MAX_LENGTH, style="plain", on_long="drop"
    )


BENCHMARK = Benchmark(
    name="wire-precision",
    summary="Perplexity after the same training with narrower types on the wire.",
    measure=measure,
    seeds=(0, 1, 2),
)
