"""How many bytes adapters keep from the forward pass for the backward pass: inputs and products."""

from collections.abc import Iterable, Mapping

from ..types import Span, Weight
from .model_costs import AdapterInputs, ModelCosts


def adapted_weights(costs: ModelCosts, span: Span, ranks: Mapping[str, int]) -> list[Weight]:
    return [w for w in costs.weights if w.block in span and ranks.get(w.name, 0) > 0]


def adapter_inputs(costs: ModelCosts, adapted: Iterable[Weight]) -> AdapterInputs:
    paths: dict[int, list[str]] = {}
    for weight in adapted:
        paths.setdefault(weight.block, []).append(costs.path_in_block(weight))
    return sum((costs.block.adapter_inputs(held) for held in paths.values()), AdapterInputs())


def products_bytes(costs: ModelCosts, adapted: Iterable[Weight], ranks: Mapping[str, int]) -> float:
    """The ``A x`` of all adapters."""
    sum_of_ranks = sum(ranks[weight.name] for weight in adapted)
    return sum_of_ranks * costs.adapter_activation_bytes_per_rank
