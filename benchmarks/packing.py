"""What packing rows brings: tokens learnt in a second, against padding, on built-in conversations.

llama-tiny, one client and a worker in one process, the library's own messages between them. Both
ways take the same conversations in steps of as many tokens with padding at most. Padded rows may
be in any order, or in one of lengths, which pads least and makes batches unlike each other.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

from benchmarks.harness import Benchmark, Detail, Figure, Settings, interleave
from hsplit_flower.batches import Batch
from hsplit_flower.client.local_round import LocalRound
from hsplit_flower.data import EncodedExample, batches, pad_token_id
from hsplit_flower.data.chat import (
    HELP_DESK,
    PackedRow,
    encode_conversations,
    load_conversations,
    pack,
)
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Parts, load_half, load_tokenizer
from hsplit_flower.transport.streams import InProcessStream
from hsplit_flower.types import WireType
from hsplit_flower.worker import SplitWorker

MODEL: Final = "llama-tiny"
CUT: Final = 3
RANK: Final = 8
BATCH: Final = 8
ROW_LENGTH: Final = 224
NUM_CONVERSATIONS: Final = 96
REPEATS: Final = 3

Rows = Sequence[EncodedExample] | Sequence[PackedRow]


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Learnt tokens a second and of those computed, packed and padded, and both ratios."""
    num = 24 if settings.quick else NUM_CONVERSATIONS
    conversations = load_conversations(HELP_DESK)[:num]
    tokenizer = load_tokenizer(MODEL)
    encoded = encode_conversations(conversations, tokenizer, max_length=ROW_LENGTH).examples
    num_learnt = sum(one.num_learnt for one in encoded)
    ways: dict[str, Rows] = {
        "packed": pack(encoded, ROW_LENGTH),
        "padded": encoded,
        "padded, by length": sorted(encoded, key=len),
    }
    given = {name: _batches(rows, pad_token_id(tokenizer)) for name, rows in ways.items()}
    for name, made in given.items():
        num_computed = sum(batch.shape[0] * batch.shape[1] for batch in made)
        yield Figure(name=f"{name}: learnt / computed", value=num_learnt / num_computed, unit="1")
    repeats = 1 if settings.quick else REPEATS
    with ExitStack() as stack:
        train = stack.enter_context(_client(settings.seeds[0]))
        for name in ("padded", "padded, by length"):
            packed, other = interleave(
                lambda: train(given["packed"]),
                lambda name=name: train(given[name]),  # type: ignore[misc]
                repeats=repeats,
            )
            speeds = [num_learnt / seconds for seconds in packed]
            yield Figure.of_repeats(f"packed, beside {name}: learnt", speeds, "tokens/s")
            ratios = [theirs / ours for ours, theirs in zip(packed, other, strict=True)]
            yield Figure.of_repeats(f"packed / {name}: learnt tokens a second", ratios, "1")
    rows = {name: len(made) for name, made in given.items()}
    yield Detail(name="steps", value={**rows, "rows in a step": BATCH, "row": ROW_LENGTH})


def _batches(rows: Rows, pad_id: int) -> list[Batch]:
    return [Batch(**_all_fields(batch)) for batch in batches(rows, BATCH, pad_id=pad_id)]


def _all_fields(batch: dict[str, Any]) -> dict[str, Any]:
    return {"attention_mask": None, **batch}


@contextmanager
def _client(seed: int) -> Iterator[Callable[[list[Batch]], object]]:
    """What trains a client's half and its session on some batches, a step each."""
    num_blocks = load_half(MODEL, Parts.of_client(1, keeps_labels=False)).architecture.num_blocks
    half = load_half(MODEL, Parts.of_client(CUT, keeps_labels=False))
    ranks = {weight.name: RANK for weight in half.architecture.weights}
    spec = SessionSpec(client=0, cut=CUT, ranks=ranks, learning_rate=1e-4, seed=seed)
    with ExitStack() as stack:
        worker = SplitWorker(
            load_half(MODEL, Parts.of_worker(CUT, num_blocks)),
            model=MODEL,
            memory_bytes=1e12,
            flops_per_second=1e12,
        )
        stack.callback(worker.stop)

        def train(given: list[Batch]) -> object:
            token = worker.open(spec)
            stream = InProcessStream(
                lambda request: worker.exchange(token, request), WireType.FLOAT32
            )
            with closing(stream):
                local_round = LocalRound(half, {}, spec, stream)
                outcome = local_round.train(iter(given), probe=False)
                local_round.release_half()
            worker.close(token)
            return outcome

        yield train


BENCHMARK = Benchmark(
    name="packing",
    summary="Tokens learnt in a second with packed rows, against padded ones.",
    measure=measure,
)
