"""A split training step beside the same step of the whole model under PEFT.

GPT-2's small shape with random weights, the same in both; adapters of the same ranks on the same
weights, the same optimizer and batch. The split side is a client here and a worker in a process of
its own, over gRPC on the loopback; both sides compute with the same number of threads, and of the
split two only one computes at a time. The two take turns.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target, interleave
from benchmarks.tools.split_pair import (
    SteppedRound,
    Way,
    cpu_seconds,
    full_batch,
    load_client,
    save_random_model,
    worker_process,
)
from hsplit_flower.batches import Batch
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import read_architecture
from hsplit_flower.types import Labels

RANK: Final = 8
ALPHA: Final = 16
LEARNING_RATE: Final = 1e-4
TARGET: Final = Target("<=", 1.10)


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Seconds of both, and their ratio, for each label mode."""
    quick, seed = settings.quick, settings.seeds[0]
    num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    torch.set_num_threads(num_threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = shape(quick=quick)
    folder = save_random_model(config, settings.scratch / "model", seed)
    batch = full_batch(config.vocab_size, 2 if quick else 8, 64 if quick else 128, seed)
    cut = config.n_layer // 4
    ranks = {weight.name: RANK for weight in read_architecture(config).weights}
    with worker_process(folder, num_threads=num_threads, device=device) as worker:
        for labels in Labels:
            spec = SessionSpec(
                client=0,
                cut=cut,
                ranks=ranks,
                labels=labels,
                lora_alpha=ALPHA,
                learning_rate=LEARNING_RATE,
            )
            half = load_client(folder, spec, device)
            whole = central_step(folder, ranks, batch, device)
            with closing(
                SteppedRound(worker, half, spec, Way(address=worker.address), batch)
            ) as split:
                computed: tuple[list[float], list[float]] = ([], [])
                ours, theirs = interleave(
                    _computing(split.step, computed[0]),
                    _computing(whole, computed[1]),
                    repeats=5,
                )
            yield from compared(
                f"labels at the {labels.value}", (ours, theirs), computed, quick=quick
            )
    yield Detail(
        name="step",
        value={
            "blocks": config.n_layer,
            "width": config.n_embd,
            "cut": cut,
            "batch": list(batch.shape),
            "rank": RANK,
            "threads": num_threads,
            "device": device,
        },
    )


def compared(
    name: str,
    seconds: tuple[list[float], list[float]],
    computed: tuple[list[float], list[float]],
    *,
    quick: bool,
) -> Iterator[Figure]:
    """The split step's seconds, those of the whole model's, and their ratios.

    ``computed`` is the processor's time of both, warm-up included.
    """
    ours, theirs = seconds
    yield Figure.of_repeats(f"{name}: split", ours, "s")
    yield Figure.of_repeats(f"{name}: PEFT on the whole model", theirs, "s")
    # Pairs were run one after the other: what slows the machine slows both of a pair.
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    target = None if quick else TARGET
    yield Figure.of_repeats(f"{name}: ratio of a pair", ratios, "1", target)
    yield Figure(
        name=f"{name}: ratio of the medians", value=median(ours) / median(theirs), unit="1"
    )
    # Of the processor's time, which others on the machine do not change; without warm-up.
    ratios = [a / b for a, b in zip(computed[0][1:], computed[1][1:], strict=True)]
    yield Figure.of_repeats(f"{name}: ratio of CPU seconds", ratios, "1")


def _computing(step: Callable[[], object], seconds: list[float]) -> Callable[[], None]:
    """The step, which notes the processor's time that it took."""

    def run() -> None:
        before = cpu_seconds()
        step()
        seconds.append(cpu_seconds() - before)

    return run


def shape(*, quick: bool) -> GPT2Config:
    """GPT-2 with 124 M parameters; in a quick run a sixth as wide and a third as deep."""
    settings: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    if quick:
        settings |= {"n_embd": 128, "n_layer": 4, "n_head": 2, "vocab_size": 4096}
    return GPT2Config(bos_token_id=0, eos_token_id=0, **settings)


def central_step(
    folder: Path, ranks: dict[str, int], batch: Batch, device: str
) -> Callable[[], object]:
    """One optimizer step of the whole model under PEFT."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.to(device)
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=list(ranks),
        lora_dropout=0.0,
        fan_in_fan_out=True,
    )
    with warnings.catch_warnings():
        # PEFT reads an attribute that transformers has renamed.
        warnings.filterwarnings("ignore", category=FutureWarning)
        peft_model = get_peft_model(model, config)
    peft_model.train()
    parameters = [p for p in peft_model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    here = batch.to(device)
    fields = {
        "input_ids": here.input_ids,
        "attention_mask": here.attention_mask,
        "labels": here.labels,
    }

    def step() -> float:
        loss = peft_model(**fields, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


BENCHMARK = Benchmark(
    name="step-overhead",
    summary="A split step on one machine beside the whole model's under PEFT.",
    measure=measure,
)
