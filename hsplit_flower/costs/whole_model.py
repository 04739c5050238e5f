"""What a model costs a client that has all of it, made from what it costs one that has a part.

Both are costs like any other, so that budgets are met, ranks found and seconds reckoned by the same
formulas as for a client below a cut.
"""

from dataclasses import replace

from .model_costs import ModelCosts, PassCosts

# Parameter, gradient and Adam's two moments, each of the model's own dtype.
NUMBERS_PER_PARAMETER = 4


def without_cut(costs: ModelCosts) -> ModelCosts:
    """Where nothing crosses a cut, and no importance is scored."""
    passes = tuple(replace(one, layer_inputs_bytes=0.0, scoring_bytes=0.0) for one in costs.passes)
    return replace(costs, wire_hidden_bytes=0.0, passes=passes)


def fully_trained(costs: ModelCosts) -> ModelCosts:
    """Where all parameters are trained besides, and no adapters.

    The inputs of all layers are kept, and every weight's gradient is a product more: ``G = δᵀ x``,
    ``2 n in out`` operations for ``n`` tokens.
    """
    own = [0] * costs.num_blocks
    for weight in costs.weights:
        own[weight.block] += weight.in_features * weight.out_features
    flops_per_number = 2.0 * costs.workload.num_tokens
    head_numbers = costs.exit_bytes / costs.workload.dtype_bytes
    bare = without_cut(costs)
    return replace(
        bare,
        # None is adapted.
        weights=(),
        entry_bytes=NUMBERS_PER_PARAMETER * costs.entry_bytes,
        exit_bytes=NUMBERS_PER_PARAMETER * costs.exit_bytes,
        tied_bytes=NUMBERS_PER_PARAMETER * costs.tied_bytes,
        block_bytes=tuple(NUMBERS_PER_PARAMETER * one for one in costs.block_bytes),
        passes=tuple(
            _with_gradients(one, traced.layer_inputs_bytes, flops_per_number * numbers)
            for one, traced, numbers in zip(bare.passes, costs.passes, own, strict=True)
        ),
        head=_with_gradients(costs.head, costs.hidden_bytes, flops_per_number * head_numbers),
    )


def _with_gradients(one: PassCosts, inputs_bytes: float, more_flops: float) -> PassCosts:
    return replace(
        one,
        saved_bytes=one.saved_bytes + inputs_bytes,
        backward_flops=one.backward_flops + more_flops,
    )
