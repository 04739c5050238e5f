"""Training across a link of some delay and rate, with and without micro-batches in flight.

The link is a proxy on this machine. Every link has a session of its own on one worker, and they
take their steps in turns. The worker is a process of its own; client and worker compute with one
thread each, at the same time where micro-batches let them.

Each step waits for its last gradient before the next begins, or it would not be the step of one
batch: one round trip a step, two where the labels stay, is left however much is in flight.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from statistics import median
from typing import Final

import torch
from transformers import LlamaConfig

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.tools.shaped_link import Link, shaped
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
from hsplit_flower.types import Labels

RANK: Final = 8
IN_FLIGHT: Final = 4
TARGET: Final = Target(">=", 0.80)
ROUND_TRIPS: Final = (0.0, 0.020, 0.100)
RATES: Final = (1e9, 1e8)
FAST: Final = Link.even(0.0, 1e9)
FAR: Final = Link.even(0.1, 1e9)

Case = tuple[Labels, Link, bool]


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Tokens a second of every link, then what is left of the near link's on the far one."""
    quick, seed = settings.quick, settings.seeds[0]
    torch.set_num_threads(1)
    config = shape(quick=quick)
    folder = save_random_model(config, settings.scratch / "model", seed)
    batch = full_batch(config.vocab_size, 8 if quick else 16, 32 if quick else 64, seed)
    ranks = {weight.name: RANK for weight in read_architecture(config).weights}
    with ExitStack() as stack:
        worker = stack.enter_context(worker_process(folder, num_threads=1))
        rounds: dict[Case, SteppedRound] = {}
        for case in cases(quick=quick):
            labels, link, is_pipelined = case
            spec = SessionSpec(
                client=len(rounds),
                cut=config.num_hidden_layers // 3,
                ranks=ranks,
                labels=labels,
                in_flight=IN_FLIGHT,
            )
            way = Way(
                address=stack.enter_context(shaped(worker.address, link)),
                micro_batch_size=2 if is_pipelined else 0,
            )
            split = SteppedRound(worker, load_client(folder, spec), spec, way, batch)
            rounds[case] = stack.enter_context(closing(split))
        seconds = take_turns(rounds, repeats=5 if quick else 9)
    num_tokens = batch.input_ids.numel()
    for case, taken in seconds.items():
        yield Figure.of_repeats(name_of(case), [num_tokens / s for s in taken], "tokens/s")
    yield from kept_far_away(seconds, quick=quick)
    yield Detail(
        name="step",
        value={
            "blocks": config.num_hidden_layers,
            "width": config.hidden_size,
            "batch": list(batch.shape),
            "micro-batch": 2,
            "in flight": IN_FLIGHT,
            "wire": "float32",
            "seconds at 0 ms, 1 Gbit/s": {
                _how(case[2]): median(taken)
                for case, taken in seconds.items()
                if case[:2] == (Labels.SERVER, FAST)
            },
        },
    )


def shape(*, quick: bool) -> LlamaConfig:
    """Small enough that a step takes about a second on one core, so that the link is felt."""
    width = 96 if quick else 512
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=3 if quick else 6,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        vocab_size=1024 if quick else 4096,
    )


def cases(*, quick: bool) -> list[Case]:
    """Label mode, link, and whether micro-batches are in flight."""
    if quick:
        return [(Labels.SERVER, link, True) for link in (FAST, FAR)]
    links = [Link.even(seconds, rate) for seconds in ROUND_TRIPS for rate in RATES]
    at_server = [(Labels.SERVER, link, how) for link in links for how in (False, True)]
    at_client = [(Labels.CLIENT, link, how) for link in (FAST, FAR) for how in (False, True)]
    return at_server + at_client


def take_turns(rounds: dict[Case, SteppedRound], *, repeats: int) -> dict[Case, list[float]]:
    """Seconds of steps, one of each round after the other; the first two are not counted."""
    seconds: dict[Case, list[float]] = {case: [] for case in rounds}
    for repeat in range(repeats + 2):
        for case, split in rounds.items():
            taken = split.step()
            if repeat >= 2:
                seconds[case].append(taken)
    return seconds


def kept_far_away(seconds: dict[Case, list[float]], *, quick: bool) -> Iterator[Figure]:
    """What is left of the near link's tokens a second on the far one."""
    for labels in Labels:
        for is_pipelined in (False, True):
            near, far = (labels, FAST, is_pipelined), (labels, FAR, is_pipelined)
            if near in seconds and far in seconds:
                # The order of turns is the same for all: each pair met the same machine.
                kept = [a / b for a, b in zip(seconds[near], seconds[far], strict=True)]
                is_promised = is_pipelined and not quick
                name = f"labels at the {labels.value}, {_how(is_pipelined)}: 100 ms / 0 ms"
                target = TARGET if is_promised else None
                yield Figure.of_repeats(name, kept, "1", target)


def name_of(case: Case) -> str:
    """What a figure of this case is called."""
    labels, link, is_pipelined = case
    delay_ms, rate_mbps = link.round_trip_seconds * 1e3, link.up_bits_per_second / 1e6
    where = f"labels at the {labels.value}, {delay_ms:g} ms, {rate_mbps:g} Mbit/s"
    return f"{where}, {_how(is_pipelined)}"


def _how(is_pipelined: bool) -> str:
    return "pipelined" if is_pipelined else "whole batches"


BENCHMARK = Benchmark(
    name="latency",
    summary="Tokens a second over links of several delays and rates, pipelined and not.",
    measure=measure,
)
