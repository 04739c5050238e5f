"""How many bytes adapters keep from the forward pass for the backward pass: inputs and products."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..types import Span, Weight
from .model_costs import FLOAT32_BYTES, AdapterInputs, ModelCosts, PassCosts, SavedInput

MASK_BYTES = 1


def adapted_weights(costs: ModelCosts, span: Span, ranks: Mapping[str, int]) -> list[Weight]:
    return [w for w in costs.weights if w.block in span and ranks.get(w.name, 0) > 0]


def adapter_inputs(costs: ModelCosts, adapted: Iterable[Weight]) -> AdapterInputs:
    paths: dict[int, list[str]] = {}
    for weight in adapted:
        paths.setdefault(weight.block, []).append(costs.path_in_block(weight))
    return sum(
        (costs.passes[block].adapter_inputs(held) for block, held in paths.items()),
        AdapterInputs(),
    )


def products_bytes(costs: ModelCosts, adapted: Iterable[Weight], ranks: Mapping[str, int]) -> float:
    """The ``A x`` of all adapters."""
    sum_of_ranks = sum(ranks[weight.name] for weight in adapted)
    return sum_of_ranks * costs.adapter_activation_bytes_per_rank


def kept_for_adapters(
    costs: ModelCosts, adapted: Sequence[Weight], ranks: Mapping[str, int], *, checkpointing: bool
) -> tuple[AdapterInputs, float]:
    """Inputs and ``A x`` that are kept at once: of all blocks, or of the dearest one."""
    if not checkpointing:
        return adapter_inputs(costs, adapted), products_bytes(costs, adapted, ranks)
    blocks: dict[int, list[Weight]] = {}
    for weight in adapted:
        blocks.setdefault(weight.block, []).append(weight)
    kept = [(adapter_inputs(costs, b), products_bytes(costs, b, ranks)) for b in blocks.values()]
    none = (AdapterInputs(), 0.0)
    return max(kept, key=lambda pair: pair[0].total_bytes + pair[1], default=none)


def with_dropout(costs: ModelCosts) -> ModelCosts:
    """The same where each adapter keeps its own input, masked in float32, and the mask."""
    passes = []
    for block, one in enumerate(costs.passes):
        own = [weight for weight in costs.weights if weight.block == block]
        masked = tuple(_masked(costs, one, weight) for weight in own)
        passes.append(replace(one, saved_inputs=masked))
    return replace(costs, passes=tuple(passes))


def _masked(costs: ModelCosts, one: PassCosts, weight: Weight) -> SavedInput:
    path = costs.path_in_block(weight)
    numbers = float(costs.workload.num_tokens * weight.in_features)
    for kept in one.saved_inputs:
        # That of an expert has fewer tokens.
        if path in kept.weights:
            width = FLOAT32_BYTES if kept.is_copy else costs.workload.dtype_bytes
            numbers = min(numbers, kept.saved_bytes / width)
    return SavedInput(
        weights=frozenset({path}),
        saved_bytes=numbers * (FLOAT32_BYTES + MASK_BYTES),
        is_copy=True,
    )
