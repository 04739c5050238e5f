"""Whether clients take as much memory as is predicted, and no more than they were planned to.

Real rounds of a client's half, with random weights, in two families: first rounds, and later ones,
which start from a global update; of float bases, and of quantised ones. By its tensors: everything
that operations make is counted, or on CUDA what the allocator gave out. By its process: how much
the resident memory of a fresh process grows, where the C library gives back what is freed; a full
run shows beside it what is taken where the library keeps that for itself. With a CUDA device,
GPT-2-Large and LLaMA-2-7B in bfloat16 are planned for budgets of 5 to 20 GB and run.
"""

from collections.abc import Iterator, Mapping
from itertools import cycle, product
from typing import Final

import torch
from transformers import GPT2Config, LlamaConfig, PretrainedConfig

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target, peak_memory_of
from benchmarks.tools.client_run import ClientRun, live_peak_bytes, train
from benchmarks.tools.memory_comparison import Comparison, compared, predicted_bytes
from benchmarks.tools.small_models import costs_of, small, update_ranks
from hsplit_flower.costs import ModelCosts, Workload, trace_costs, whole_model_memory
from hsplit_flower.planning import plan
from hsplit_flower.settings import PlanSettings
from hsplit_flower.simulation import fleet_profiles, worker_profile
from hsplit_flower.types import DeviceProfile, Labels, Start

WITHIN: Final = Target("<=", 0.1)
NONE: Final = Target("==", 0)
CUTS: Final = (1, 3, 6)
RANKS: Final = (2, 16)
# Of the highest rank there is: few directions, the most that stay factored in a square weight, and
# where smaller weights and all weights take their update in.
UPDATE_SHARES: Final = (1 / 16, 0.5, 0.7, 1.0)
FLEETS: Final = ("homogeneous", "heterogeneous")
NUM_CLIENTS: Final = 5
AMPLE: Final = DeviceProfile(memory_bytes=1e15, flops_per_second=1.0)

LLAMA_2_7B: Final = LlamaConfig(
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    vocab_size=32000,
    max_position_embeddings=4096,
)
GPT_2_LARGE: Final = GPT2Config(n_embd=1280, n_layer=36, n_head=20)


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Single configurations, planned fleets, processes; and real sizes on CUDA."""
    torch.manual_seed(settings.seeds[0])
    yield from _summary("tensors", list(configurations(quick=settings.quick)))
    yield from _summary("later rounds", list(later_rounds(quick=settings.quick)))
    yield from _summary("quantised", list(quantised_bases(quick=settings.quick)))
    yield from _summary("planned", list(planned_fleets(quick=settings.quick)))
    returning = list(processes(quick=settings.quick, returns_freed=True))
    yield from _summary("process", returning)
    if not settings.quick:
        keeping = list(processes(quick=False, returns_freed=False))
        yield from _summary("process, usual malloc", keeping, target=None)
    if torch.cuda.is_available():
        yield from _summary("cuda", list(real_sizes(quick=settings.quick)))
    else:
        yield Detail(name="cuda", value="no CUDA device here: real sizes were not run")


def _summary(
    kind: str, compared: list[Comparison], *, target: Target | None = WITHIN
) -> Iterator[Figure | Detail]:
    errors = [one.error for one in compared]
    yield Figure(name=f"{kind}: runs", value=len(compared), unit="count")
    yield Figure(
        name=f"{kind}: largest error",
        value=max(abs(error) for error in errors),
        unit="share",
        target=target,
    )
    yield Figure.of_repeats(f"{kind}: error, median", errors, "share")
    if any(one.budget_bytes is not None for one in compared):
        above = sum(one.measured_bytes > (one.budget_bytes or 0.0) for one in compared)
        yield Figure(name=f"{kind}: above budget", value=above, unit="count", target=NONE)
    yield Detail(name=kind, value=[one.as_json() for one in compared])


def configurations(*, quick: bool) -> Iterator[Comparison]:
    """Families, batches, cuts, ranks, checkpointing; labels, dtype and attention in turn."""
    kinds = ((4, "sdpa"), (2, "eager"), (4, "eager"), (2, "sdpa"))
    others = cycle(product(Labels, kinds[:2] if quick else kinds))
    for family, batch, checkpointing, cut, rank in product(
        ("llama", "gpt2"), (2, 8), (False, True), CUTS, RANKS
    ):
        labels, (dtype_bytes, attention) = next(others)
        workload = Workload(
            batch_size=batch,
            sequence_length=64 if quick else 128,
            dtype_bytes=dtype_bytes,
            wire_dtype_bytes=dtype_bytes,
            attention=attention,
        )
        costs = costs_of(family, workload, quick)
        run = ClientRun(
            config=small(family, quick=quick),
            workload=workload,
            cut=cut,
            ranks={weight.name: rank for weight in costs.weights},
            labels=labels,
            checkpointing=checkpointing,
        )
        name = f"{family} cut {cut} rank {rank} batch {batch} {labels.value} {dtype_bytes}B"
        kept = "checkpointed" if checkpointing else "kept"
        yield compared(f"{name} {attention} {kept}", run, costs)


def later_rounds(*, quick: bool) -> Iterator[Comparison]:
    """Rounds that start from a global update of any rank, small batches beside it."""
    workload = Workload(batch_size=2, sequence_length=32 if quick else 64)
    cuts = (6,) if quick else (1, 6)
    for family, start, share, cut in product(("llama", "gpt2"), Start, UPDATE_SHARES, cuts):
        costs = costs_of(family, workload, quick)
        run = ClientRun(
            config=small(family, quick=quick),
            workload=workload,
            cut=cut,
            ranks={weight.name: 4 for weight in costs.weights},
            update_ranks=update_ranks(costs, share),
            start=start,
        )
        yield compared(f"{family} cut {cut} {start.value} update {share:g}", run, costs)


def quantised_bases(*, quick: bool) -> Iterator[Comparison]:
    """Bases in 4 and 8 bits; with small batches, weights and dequantised matrices are the most."""
    others = cycle(product(Labels, (4, 2), (False, True)))
    for family, kind, batch, cut in product(("llama", "gpt2"), ("nf4", "int8"), (1, 8), CUTS):
        labels, dtype_bytes, checkpointing = next(others)
        workload = Workload(
            batch_size=batch,
            sequence_length=32 if quick else 64,
            dtype_bytes=dtype_bytes,
            wire_dtype_bytes=dtype_bytes,
            quantised=kind,
        )
        costs = costs_of(family, workload, quick)
        run = ClientRun(
            config=small(family, quick=quick),
            workload=workload,
            cut=cut,
            ranks={weight.name: 4 for weight in costs.weights},
            update_ranks=update_ranks(costs, 1 / 16),
            labels=labels,
            checkpointing=checkpointing,
        )
        name = f"{family} {kind} cut {cut} batch {batch} {labels.value} {dtype_bytes}B"
        kept = "checkpointed" if checkpointing else "kept"
        yield compared(f"{name} {kept}", run, costs)


def planned_fleets(*, quick: bool) -> Iterator[Comparison]:
    """Every client of a planned fleet, against its budget; some in a later round."""
    shares = cycle((0.0, *UPDATE_SHARES))
    for family, fleet in product(("llama", "gpt2"), FLEETS):
        workload = Workload(batch_size=4, sequence_length=64 if quick else 128)
        costs = costs_of(family, workload, quick)
        config = small(family, quick=quick)
        yield from _planned(
            f"{family} {fleet}",
            config,
            costs,
            fleet,
            device="cpu",
            update_ranks=update_ranks(costs, next(shares)),
        )


def processes(*, quick: bool, returns_freed: bool) -> Iterator[Comparison]:
    """Resident memory of fresh processes, large enough that libraries are small change."""
    batch, width = (16, 256) if quick else (24, 512)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=8,
        num_attention_heads=8,
        vocab_size=8000,
    )
    costs = trace_costs(config, Workload(batch_size=batch, sequence_length=256))
    for cut in (2, 4) if quick else (1, 2, 4, 6):
        run = ClientRun(
            config=config,
            workload=costs.workload,
            cut=cut,
            ranks={weight.name: 8 for weight in costs.weights},
        )
        imports = ("peft", "benchmarks.tools.client_run")
        used = peak_memory_of(train, run, returns_freed, imports=imports)
        yield Comparison(
            name=f"llama {width} cut {cut}",
            predicted_bytes=predicted_bytes(run, costs),
            measured_bytes=used.growth_bytes,
        )


def real_sizes(*, quick: bool) -> Iterator[Comparison]:
    """Planned clients of 5 to 20 GB, on the CUDA device that is there."""
    for name, config in (("gpt2-large", GPT_2_LARGE), ("llama-2-7b", LLAMA_2_7B)):
        workload = Workload(
            batch_size=2 if quick else 8,
            sequence_length=512,
            dtype_bytes=2,
            wire_dtype_bytes=2,
        )
        costs = trace_costs(config, workload)
        yield from _planned(name, config, costs, "paper-llama2-7b", device="cuda", update_ranks={})


def _planned(
    name: str,
    config: PretrainedConfig,
    costs: ModelCosts,
    fleet: str,
    *,
    device: str,
    update_ranks: Mapping[str, int],
) -> Iterator[Comparison]:
    settings = PlanSettings()
    whole = whole_model_memory(costs, rank=settings.max_rank).total_bytes
    profiles = dict(
        enumerate(fleet_profiles(fleet, num_devices=NUM_CLIENTS, whole_model_bytes=whole))
    )
    made = plan(
        costs, profiles, worker_profile(fleet, AMPLE), settings=settings, update_ranks=update_ranks
    )
    known: set[tuple[float, int, tuple[int, ...]]] = set()
    for client, part in made.clients.items():
        budget = profiles[client].memory_bytes
        # Of clients that are alike in everything one is enough.
        alike = (budget, part.cut, tuple(part.ranks.values()))
        if alike in known:
            continue
        known.add(alike)
        run = ClientRun(
            config=config,
            workload=costs.workload,
            cut=part.cut,
            ranks=part.ranks,
            update_ranks=update_ranks,
            start=settings.start,
            checkpointing=part.checkpointing,
            device=device,
        )
        yield Comparison(
            name=f"{name} client {client} cut {part.cut}",
            predicted_bytes=part.memory.total_bytes,
            measured_bytes=live_peak_bytes(run),
            budget_bytes=budget,
        )


BENCHMARK = Benchmark(
    name="memory", summary="Predicted against measured memory of clients.", measure=measure
)
