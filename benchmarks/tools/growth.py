"""What a trial's adapter takes in each round, what its rounds take, and whether it is exact."""

import gc
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.trial import Examples, Setting, base_model, examples_of, perplexity
from benchmarks.trial.federation import aggregated, trained
from benchmarks.trial.whole_model import architecture_of, with_updates
from hsplit_flower.adapters import LowRank, UpdateSum, export_adapter, initial_update
from hsplit_flower.adapters.peft_state import narrowest_dtype
from hsplit_flower.aggregation import Dividing
from hsplit_flower.methods import ClientResult, MethodState
from hsplit_flower.server.global_adapter import arrays_of

MEASURED_EVERY = 4
"""Rounds after which perplexity is measured, beside the last."""
MOST_CHECKED = 64
"""Weights whose exact sums are followed; a larger model's first ones stand for all."""


def growth_of(setting: Setting) -> list[dict[str, Any]]:
    """A line for each round."""
    examples = Examples.load(**examples_of(setting))
    base = base_model(setting.model)
    state = MethodState.fresh(architecture_of(setting.model).weights)
    checked = list(state.updates)[:MOST_CHECKED]
    exact = {name: torch.zeros_like(state.updates[name].dense()).double() for name in checked}
    lines = []
    for server_round in range(1, setting.num_rounds + 1):
        started = time.perf_counter()
        results = trained(base, setting, examples, state, server_round)
        training_seconds = time.perf_counter() - started
        before, state = state, aggregated(setting, state, results)
        seconds = time.perf_counter() - started
        _follow(exact, before, results, setting)
        is_measured = server_round % MEASURED_EVERY == 0 or server_round == setting.num_rounds
        lines.append(
            {
                "round": server_round,
                "perplexity": _perplexity(base, state, examples) if is_measured else None,
                "seconds": seconds,
                "training-seconds": training_seconds,
                "down-bytes": _array_bytes(state.updates),
                "up-bytes": _mean_bytes(results),
                "adapter-bytes": _written_bytes(state.updates),
                "held-bytes": state.held_bytes,
                "held-back-share": state.held_back_share,
                "error": max(_error(state.sum_of(name), exact[name]) for name in checked),
            }
        )
        gc.collect()  # PEFT's layers refer to each other, so the clients' models linger
    return lines


def _perplexity(base: Any, state: MethodState, examples: Examples) -> float:
    return perplexity(with_updates(base, state.updates), examples.dev, examples.pad_id)


def _mean_bytes(results: Mapping[int, ClientResult]) -> float:
    """What a client sends up, on average."""
    return sum(_array_bytes(result.updates) for result in results.values()) / len(results)


def _array_bytes(updates: Mapping[str, LowRank]) -> int:
    return sum(len(array.data) for array in arrays_of(updates).values())


def _written_bytes(updates: Mapping[str, LowRank]) -> int:
    dtype = narrowest_dtype(updates)
    with tempfile.TemporaryDirectory() as folder:
        export_adapter(updates, folder, base_model="base", is_transposed=False, dtype=dtype)
        return sum(file.stat().st_size for file in Path(folder).iterdir())


def _follow(
    exact: dict[str, Tensor],
    before: MethodState,
    results: Mapping[int, ClientResult],
    setting: Setting,
) -> None:
    """Add ``Σ p (B A − B⁰A⁰)`` in float64, as it is defined, to what was there."""
    if setting.aggregation.dividing is not Dividing.ALL or setting.aggregation.momentum:
        raise NotImplementedError("the check knows the mean over all clients, without momentum")
    total = sum(result.num_examples for result in results.values())
    for name, matrix in exact.items():
        for result in results.values():
            if name not in result.updates:
                continue
            end = result.updates[name]
            begin = initial_update(before.updates[name], end.rank, setting.training.start)
            change = end.b.double() @ end.a.double() - begin.b.double() @ begin.a.double()
            matrix += result.num_examples / total * change


def _error(got: UpdateSum, wanted: Tensor) -> float:
    # A product of factors in float64, as they are: their own rounding is not the question.
    content = got.content
    if isinstance(content, LowRank):
        matrix = content.b.double() @ content.a.double()
    else:
        matrix = content.double()
    return float((matrix - wanted).norm() / wanted.norm().clamp_min(1e-300))
