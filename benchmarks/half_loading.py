"""What loading one half of a checkpoint costs, beside loading the whole model.

Two LLaMA-shaped checkpoints are written, shard by shard: one with a head of its own in float32, one
with a tied head in bfloat16 that is widened to float32 when it is read. Each load runs in a process
of its own that has loaded a tiny model before, so that libraries and what they make on first use
are not counted. The files were just written: they are read from the page cache.
"""

import functools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from benchmarks.harness import (
    Benchmark,
    Detail,
    Figure,
    MemoryUse,
    Settings,
    Target,
    peak_memory_of,
)
from hsplit_flower.splitting import Parts, load_half
from hsplit_flower.splitting.empty_model import build_empty

NUM_BLOCKS: Final = 24
NUM_BLOCKS_QUICK: Final = 8
CUT: Final = 2
BLOCKS_PER_SHARD: Final = 4
VOCABULARY: Final = 8192
HALF_TARGET: Final = Target("<=", 1.15)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A checkpoint to be written: 1 GB on disk, in a quick run about 100 MB."""

    name: str
    width: int
    quick_width: int
    is_tied: bool
    dtype: torch.dtype

    def config(self, *, quick: bool) -> LlamaConfig:
        """The model's configuration."""
        width = self.quick_width if quick else self.width
        return _llama(width, num_blocks(quick=quick), is_tied=self.is_tied)


UNTIED = Shape(name="untied", width=896, quick_width=448, is_tied=False, dtype=torch.float32)
TIED = Shape(name="tied", width=1280, quick_width=640, is_tied=True, dtype=torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class Load:
    """One way of loading a checkpoint; ``parts`` None is transformers' own, of the whole."""

    name: str
    shape: Shape
    parts: Parts | None

    @property
    def target(self) -> Target | None:
        """What a half may take; loading the whole is for comparison."""
        return HALF_TARGET if self.parts else None


def num_blocks(*, quick: bool) -> int:
    """Blocks of the model; fewer in a quick run, so that two of them are more than small change."""
    return NUM_BLOCKS_QUICK if quick else NUM_BLOCKS


def loads(*, quick: bool) -> list[Load]:
    """The ways of loading that are compared."""
    total = num_blocks(quick=quick)
    client = Parts.of_client(CUT, keeps_labels=False)
    with_head = Parts.of_client(CUT, keeps_labels=True)
    worker = Parts.of_worker(CUT, total)
    below, above = f"client's {CUT} of {total} blocks", f"worker's {total - CUT} of {total} blocks"
    return [
        Load(name=below, shape=UNTIED, parts=client),
        Load(name=above, shape=UNTIED, parts=worker),
        Load(name="whole, by from_pretrained", shape=UNTIED, parts=None),
        Load(name=f"{below}, widened", shape=TIED, parts=client),
        Load(name=f"{below}, tied head, widened", shape=TIED, parts=with_head),
        Load(name=f"{above}, tied, widened", shape=TIED, parts=worker),
        Load(name="whole, by from_pretrained, widened", shape=TIED, parts=None),
    ]


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Growth of memory over the loaded bytes, and seconds, for each way of loading."""
    quick, seed = settings.quick, settings.seeds[0]
    for shape in (UNTIED, TIED):
        folder = settings.scratch / shape.name
        write_checkpoint(folder, shape.config(quick=quick), shape.dtype, seed)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        yield Figure(name=f"checkpoint on disk, {shape.name}", value=size / 1e6, unit="MB")
    tiny = settings.scratch / "tiny"
    write_checkpoint(tiny, _llama(64, 2, is_tied=True, vocabulary=64), torch.bfloat16, seed)

    ways = loads(quick=quick)
    taken: dict[str, list[MemoryUse]] = {way.name: [] for way in ways}
    # In turns, so that a slow spell of the machine hits every way of loading.
    for _ in range(1 if quick else 3):
        for way in ways:
            use = peak_memory_of(
                load_and_time,
                str(settings.scratch / way.shape.name),
                way.parts,
                warm_up=functools.partial(warm_up, str(tiny)),
            )
            taken[way.name].append(use)
    for way in ways:
        yield from _figures(way, taken[way.name])
    held = {way.name: taken[way.name][0].result["bytes"] for way in ways}
    yield Detail(name="bytes of the weights loaded", value=held)


def _figures(way: Load, uses: list[MemoryUse]) -> Iterator[Figure]:
    ratios = [use.growth_bytes / use.result["bytes"] for use in uses]
    yield Figure.of_repeats(f"{way.name}: growth / bytes", ratios, "1", way.target)
    yield Figure.of_repeats(f"{way.name}: growth", [use.growth_bytes / 1e6 for use in uses], "MB")
    yield Figure.of_repeats(f"{way.name}: time", [use.result["seconds"] for use in uses], "s")


def load_and_time(source: str, parts: Parts | None) -> dict[str, float]:
    """Load a half, or the whole model; give what it holds in bytes and how long it took."""
    transformers_logging.disable_progress_bar()
    started = time.perf_counter()
    if parts is None:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    else:
        model = load_half(source, parts).model
    # What is only mapped is not in memory yet: every number is read once, as a forward pass would.
    for tensor in model.state_dict().values():
        tensor.sum()
    seconds = time.perf_counter() - started
    held = {tensor.data_ptr(): tensor.nbytes for tensor in model.state_dict().values()}
    return {"bytes": sum(held.values()), "seconds": seconds}


def warm_up(tiny: str) -> None:
    """Load a tiny model both ways."""
    load_and_time(tiny, Parts.of_client(1, keeps_labels=False))
    load_and_time(tiny, None)


def write_checkpoint(folder: Path, config: LlamaConfig, dtype: torch.dtype, seed: int) -> None:
    """A checkpoint of random weights in shards, of which one is in memory at a time."""
    folder.mkdir(parents=True)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    generator = torch.Generator().manual_seed(seed)
    shards: dict[str, dict[str, torch.Size]] = {}
    for name, tensor in build_empty(config).state_dict().items():
        if not (config.tie_word_embeddings and name == "lm_head.weight"):
            shards.setdefault(_shard_of(name), {})[name] = tensor.shape
    for file, shapes in shards.items():
        tensors = {
            name: (0.02 * torch.randn(shape, generator=generator)).to(dtype)
            for name, shape in shapes.items()
        }
        save_file(tensors, folder / file, metadata={"format": "pt"})
    index: dict[str, Any] = {
        "metadata": {},
        "weight_map": {name: file for file, shapes in shards.items() for name in shapes},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _shard_of(name: str) -> str:
    block = next((int(part) for part in name.split(".") if part.isdigit()), None)
    place = "ends" if block is None else f"blocks-{block // BLOCKS_PER_SHARD:02d}"
    return f"model-{place}.safetensors"


def _llama(
    width: int, num_hidden_layers: int, *, is_tied: bool, vocabulary: int = VOCABULARY
) -> LlamaConfig:
    """Heads of 64, feed-forward layers of 8/3 the width."""
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        vocab_size=vocabulary,
        tie_word_embeddings=is_tied,
    )


BENCHMARK = Benchmark(
    name="half-loading",
    summary="Memory and time that loading one half of a checkpoint takes, beside the whole.",
    measure=measure,
)
