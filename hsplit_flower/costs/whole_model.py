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
    block = replace(costs.block, layer_inputs_bytes=0.0, scoring_bytes=0.0)
    return replace(costs, wire_hidden_bytes=0.0, block=block)


def fully_trained(costs: ModelCosts) -> ModelCosts:
    """Where all parameters are trained besides, and no adapters.

    The inputs of all layers are kept, and every weight's gradient is a product more: ``G = δᵀ x``,
    ``2 n in out`` operations for ``n`` tokens.
    """
    own = {weight.block: 0 for weight in costs.weights}
    for weight in costs.weights:
        own[weight.block] += weight.in_features * weight.out_features
    more_flops = 2.0 * costs.workload.num_tokens * max(own.values())
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
        block=_with_gradients(bare.block, costs.block.layer_inputs_bytes, more_flops),
        head=_with_gradients(
            costs.head, costs.hidden_bytes, 2.0 * costs.workload.num_tokens * head_numbers
        ),
    )


def _with_gradients(one: PassCosts, inputs_bytes: float, more_flops: float) -> PassCosts:
    return replace(
        one,
        saved_bytes=one.saved_bytes + inputs_bytes,
        backward_flops=one.backward_flops + more_flops,
    )
