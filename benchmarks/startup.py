"""What passes before the first step of a client's round, in its first round and in later ones.

A process that has imported the library loads its half, attaches the global update and fresh
adapters, and connects: the time until the worker has answered a first message of one token. Later
rounds find the half in the process. Starting Flower and importing torch are not in it, nor is the
message with the adapter.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import torch
from transformers import LlamaConfig
from transformers.utils import logging as transformers_logging

from benchmarks.harness import Benchmark, Detail, Figure, Settings, run_in_fresh_process
from benchmarks.tools.split_pair import LIMITS, save_random_model, worker_process
from hsplit_flower.adapters import LowRank
from hsplit_flower.client.half_cache import HalfCache, HalfKey
from hsplit_flower.client.local_round import LocalRound
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import Parts, load_half, read_architecture
from hsplit_flower.transport.grpc_stream import GrpcStream
from hsplit_flower.types import IGNORED_LABEL
from hsplit_flower.wire.messages import Forward

RANK: Final = 8
UPDATE_RANK: Final = 40
NUM_LATER: Final = 4
PHASES: Final = ("load", "attach", "connect")


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Seconds of each phase, of the first round and the later ones."""
    quick, seed = settings.quick, settings.seeds[0]
    config = shape(quick=quick)
    folder = save_random_model(config, settings.scratch / "model", seed)
    first: dict[str, list[float]] = {phase: [] for phase in PHASES}
    later: dict[str, list[float]] = {phase: [] for phase in PHASES}
    with worker_process(folder, num_threads=1) as worker:
        for _ in range(1 if quick else 5):
            tokens = [worker.open(spec(config)) for _ in range(1 + NUM_LATER)]
            rounds = run_in_fresh_process(start_rounds, str(folder), worker.address, tokens)
            for phase in PHASES:
                first[phase].append(rounds[0][phase])
                later[phase] += [taken[phase] for taken in rounds[1:]]
            for token in tokens:
                worker.close(token)
    for name, phases in (("first round", first), ("later round", later)):
        for phase, taken in phases.items():
            yield Figure.of_repeats(f"{name}: {phase}", taken, "s")
        totals = [sum(parts) for parts in zip(*phases.values(), strict=True)]
        yield Figure.of_repeats(f"{name}: before the first step", totals, "s")
    yield Detail(
        name="model",
        value={
            "width": config.hidden_size,
            "blocks": config.num_hidden_layers,
            "cut": cut_of(config),
            "rank": RANK,
            "rank of the global update": UPDATE_RANK,
            "file": "in the page cache",
        },
    )


def shape(*, quick: bool) -> LlamaConfig:
    """A client's quarter of the blocks and the embeddings: 340 MB of float32."""
    width = 128 if quick else 1024
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=4 if quick else 16,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        vocab_size=1024 if quick else 32000,
    )


def cut_of(config: LlamaConfig) -> int:
    """A quarter of the blocks."""
    return int(config.num_hidden_layers) // 4


def spec(config: LlamaConfig) -> SessionSpec:
    """An evaluation's session would do for connecting; this is one that trains."""
    weights = read_architecture(config).weights
    return SessionSpec(client=0, cut=cut_of(config), ranks={w.name: RANK for w in weights})


def start_rounds(model: str, address: str, tokens: list[str]) -> list[dict[str, float]]:
    """Start a round for each token, one after the other; give the seconds of each one's phases."""
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    config = LlamaConfig.from_pretrained(Path(model))
    settings = spec(config)
    updates = _updates(config)
    key = HalfKey(
        model=model,
        parts=Parts.of_client(settings.cut, keeps_labels=False),
        revision=None,
        dtype=torch.float32,
        device="cpu",
        attention=None,
    )
    halves = HalfCache()
    return [_start(halves, key, settings, updates, address, token) for token in tokens]


def _start(
    halves: HalfCache,
    key: HalfKey,
    settings: SessionSpec,
    updates: dict[str, LowRank],
    address: str,
    token: str,
) -> dict[str, float]:
    clock = [time.perf_counter()]
    with halves.lend(key, lambda: load_half(key.model, key.parts), capacity=1) as loan:
        clock.append(time.perf_counter())
        with closing(GrpcStream(address, token, settings.wire_type, LIMITS)) as stream:
            local_round = LocalRound(loan.half, dict(updates), settings, stream)
            clock.append(time.perf_counter())
            stream.exchange(_first_message(loan.half.architecture.hidden_size))
            clock.append(time.perf_counter())
        loan.is_as_loaded = local_round.release_half()
    assert loan.is_as_loaded, "the update was merged: raise the width"
    taken = [after - before for before, after in itertools.pairwise(clock)]
    return dict(zip(PHASES, taken, strict=True))


def _first_message(width: int) -> Forward:
    labels = torch.full((1, 1), IGNORED_LABEL)
    return Forward(step=1, hidden=torch.zeros(1, 1, width), labels=labels, train=False)


def _updates(config: Any) -> dict[str, LowRank]:
    """A global update of a few rounds, below the cut."""
    generator = torch.Generator().manual_seed(0)
    return {
        weight.name: LowRank(
            b=0.01 * torch.randn(weight.out_features, UPDATE_RANK, generator=generator),
            a=torch.randn(UPDATE_RANK, weight.in_features, generator=generator),
        )
        for weight in read_architecture(config).weights
        if weight.block < cut_of(config)
    }


BENCHMARK = Benchmark(
    name="startup",
    summary="What passes before the first step of a client's first round, and of later ones.",
    measure=measure,
)
