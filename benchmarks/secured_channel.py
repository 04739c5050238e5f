"""A training step over TLS beside the same step over a plain channel.

Two workers of one model, each a process of its own, one with certificates; a client takes its steps
with both in turns, over the loopback, where nothing else takes time on the way. Only one of client
and worker computes at a time.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from statistics import median
from typing import Final

import torch

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target, interleave
from benchmarks.step_overhead import shape
from benchmarks.tools.split_pair import (
    SteppedRound,
    Way,
    full_batch,
    load_client,
    save_random_model,
    worker_process,
)
from hsplit_flower.cli.make_certificates import made_certificates
from hsplit_flower.settings import Certificates, SessionSpec
from hsplit_flower.splitting import read_architecture
from hsplit_flower.types import Labels

RANK: Final = 8
TARGET: Final = Target("<=", 1.05)
DAYS: Final = 1


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Seconds of both, and their ratio, for each label mode."""
    quick, seed = settings.quick, settings.seeds[0]
    num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    torch.set_num_threads(num_threads)
    config = shape(quick=quick)
    folder = save_random_model(config, settings.scratch / "model", seed)
    batch = full_batch(config.vocab_size, 2 if quick else 8, 64 if quick else 128, seed)
    ranks = {weight.name: RANK for weight in read_architecture(config).weights}
    ca, _, certificate, key = map(
        str, made_certificates(settings.scratch / "certificates", (), (), num_days=DAYS)
    )
    files = Certificates(ssl_ca_certfile=ca, ssl_certfile=certificate, ssl_keyfile=key)
    with ExitStack() as stack:
        plain = stack.enter_context(worker_process(folder, num_threads=num_threads))
        secured = stack.enter_context(
            worker_process(folder, num_threads=num_threads, certificates=files)
        )
        for labels in Labels:
            spec = SessionSpec(client=0, cut=config.n_layer // 4, ranks=ranks, labels=labels)
            with ExitStack() as rounds:
                over_tls, over_plain = (
                    rounds.enter_context(
                        closing(
                            SteppedRound(
                                worker,
                                load_client(folder, spec),
                                spec,
                                Way(address=worker.address, security=worker.security),
                                batch,
                            )
                        )
                    )
                    for worker in (secured, plain)
                )
                ours, theirs = interleave(
                    over_tls.step, over_plain.step, repeats=5 if quick else 15
                )
            yield from compared(f"labels at the {labels.value}", ours, theirs, quick=quick)
    yield Detail(
        name="step",
        value={
            "blocks": config.n_layer,
            "width": config.n_embd,
            "batch": list(batch.shape),
            "rank": RANK,
            "threads": num_threads,
        },
    )


def compared(name: str, ours: list[float], theirs: list[float], *, quick: bool) -> Iterator[Figure]:
    """Seconds of a step over TLS and over a plain channel, and their ratios."""
    yield Figure.of_repeats(f"{name}: TLS", ours, "s")
    yield Figure.of_repeats(f"{name}: plain", theirs, "s")
    # Pairs were run one after the other: what slows the machine slows both of a pair.
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    yield Figure.of_repeats(f"{name}: ratio of a pair", ratios, "1", None if quick else TARGET)
    yield Figure(name=f"{name}: ratio of medians", value=median(ours) / median(theirs), unit="1")


BENCHMARK = Benchmark(
    name="secured-channel",
    summary="A step over TLS beside the same step over a plain channel.",
    measure=measure,
)
