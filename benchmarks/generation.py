"""Tokens a second of texts that devices write with a worker: against the whole model, and together.

The worker is a process of its own; devices are threads of this one, each with a half of its own.
Everybody computes with one thread. Whole model, one device and several take turns, so that each
pair met the same machine. A link is a proxy on this machine.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.tools.shaped_link import Link, shaped
from benchmarks.tools.split_pair import (
    LIMITS,
    cpu_seconds,
    load_client,
    save_random_model,
    worker_process,
)
from hsplit_flower.client.other_half import OtherHalf
from hsplit_flower.client.split_generation import SplitGenerator
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Half
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.transport.remote_worker import RemoteWorker

CUT: Final = 1
NUM_DEVICES: Final = 8
ALONE: Final = Target(">=", 0.7)
TOGETHER: Final = Target(">=", 3.0)
ROUND_TRIPS: Final = (0.0, 0.020, 0.100)
BITS_PER_SECOND: Final = 1e9

Write = Callable[[], float]
"""Writes a text; gives the seconds that it took."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """By the clock, and of the processor's time, worker included, whoever else had it meanwhile."""

    seconds: float
    cpu_seconds: float


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """The whole model and the split one in turns, then links."""
    quick, seed = settings.quick, settings.seeds[0]
    torch.set_num_threads(1)
    config = shape(quick=quick)
    folder = save_random_model(config, settings.scratch / "model", seed)
    prompt, new_tokens = (8, 4) if quick else (16, 24)
    ids = torch.randint(3, config.vocab_size, (1, prompt))
    how = GenerationConfig(max_new_tokens=new_tokens, do_sample=False, pad_token_id=0)
    spec = SessionSpec.to_write(cut=CUT, kept_tokens=prompt + new_tokens)
    whole: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with ExitStack() as stack:
        worker = stack.enter_context(worker_process(folder, num_threads=1))
        halves = [load_client(folder, spec) for _ in range(NUM_DEVICES)]

        def device(half: Half, address: str) -> Write:
            return timed(reached(stack, worker, half, address, spec), ids, how)

        writers = [device(half, worker.address) for half in halves]
        check_tokens(whole, reached(stack, worker, halves[0], worker.address, spec), ids, how)
        ways = {
            "whole": timed(whole, ids, how),
            "alone": writers[0],
            "together": lambda: together(writers),
        }
        taken = take_turns(ways, repeats=2 if quick else 3)
        yield from compared(taken, new_tokens)
        for seconds in ROUND_TRIPS:
            link = Link.even(seconds, BITS_PER_SECOND)
            write = device(halves[0], stack.enter_context(shaped(worker.address, link)))
            rates = [new_tokens / write() for _ in range(2 if quick else 4)]
            yield Figure.of_repeats(
                f"one device, round trip {seconds * 1e3:g} ms", rates[1:], "tokens/s"
            )
    yield Detail(
        name="text",
        value={
            "blocks": config.num_hidden_layers,
            "width": config.hidden_size,
            "vocabulary": config.vocab_size,
            "cut": CUT,
            "prompt": prompt,
            "new tokens": new_tokens,
            "devices": NUM_DEVICES,
        },
    )


def shape(*, quick: bool) -> LlamaConfig:
    """Of a quarter of a billion weights, of which a device holds a twentieth, and embeddings."""
    width = 96 if quick else 1024
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=3 if quick else 20,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        vocab_size=1024 if quick else 8000,
        eos_token_id=None,
    )


def reached(
    stack: ExitStack, worker: RemoteWorker, half: Half, address: str, spec: SessionSpec
) -> SplitGenerator:
    """A device that has opened a session, and reaches the worker at an address."""
    token = worker.open(spec)
    stack.callback(worker.close, token)
    stream = stack.enter_context(closing(GrpcStream(address, token, spec.wire_type, LIMITS)))
    other = OtherHalf(stream, half.architecture.vocabulary_size)
    return SplitGenerator(half, lambda: nullcontext(other))


def timed(model: Any, ids: Tensor, how: GenerationConfig) -> Write:
    """Have a model write the same text each time."""

    def write() -> float:
        started = perf_counter()
        written(model, ids, how)
        return perf_counter() - started

    return write


@torch.no_grad()
def written(model: Any, ids: Tensor, how: GenerationConfig) -> Tensor:
    """Prompt and text."""
    tokens: Tensor = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=how
    )
    return tokens


def check_tokens(whole: Any, split: Any, ids: Tensor, how: GenerationConfig) -> None:
    """What is compared must be the same text."""
    if not torch.equal(written(whole, ids, how), written(split, ids, how)):
        raise RuntimeError("the split model writes another text than the whole one")


def together(writers: Sequence[Write]) -> float:
    """Seconds until all devices have written a text, begun at once."""
    started = perf_counter()
    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(lambda write: write(), writers))
    return perf_counter() - started


def take_turns(ways: dict[str, Write], *, repeats: int) -> dict[str, list[Taken]]:
    """What each way takes, one after the other; the first turn is not counted."""
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, write in ways.items():
            before = cpu_seconds()
            seconds = write()
            if repeat:
                taken[name].append(Taken(seconds=seconds, cpu_seconds=cpu_seconds() - before))
    return taken


def compared(taken: dict[str, list[Taken]], new_tokens: int) -> Iterator[Figure]:
    """Rates, and what they are of each other, by the clock and of the processor's time."""
    for name, count in (("whole", 1), ("alone", 1), ("together", NUM_DEVICES)):
        rates = [count * new_tokens / one.seconds for one in taken[name]]
        yield Figure.of_repeats(TITLES[name], rates, "tokens/s")
    for name, other, count, target in (
        ("alone", "whole", 1, ALONE),
        ("together", "alone", NUM_DEVICES, TOGETHER),
    ):
        pairs = list(zip(taken[other], taken[name], strict=True))
        title = f"{TITLES[name]} / {TITLES[other]}"
        by_clock = [count * a.seconds / b.seconds for a, b in pairs]
        yield Figure.of_repeats(title, by_clock, "1", target)
        of_processor = [count * a.cpu_seconds / b.cpu_seconds for a, b in pairs]
        yield Figure.of_repeats(f"{title}, tokens a processor's second", of_processor, "1")


TITLES: Final = {
    "whole": "whole model",
    "alone": "one device over loopback",
    "together": f"{NUM_DEVICES} devices over loopback",
}

BENCHMARK = Benchmark(
    name="generation",
    summary="Tokens a second of texts written on both sides of a cut, alone, together, far away.",
    measure=measure,
)
