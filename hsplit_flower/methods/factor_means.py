"""Rounds of methods whose global adapter is one pair of factors: means of ``B`` and of ``A``."""

from collections.abc import Mapping
from dataclasses import replace

from ..adapters import LowRank, SelfPruning, concatenate, initial_update
from ..aggregation import average_factors, pad_and_average, sparsity_weighted
from ..types import Start
from .method import Method
from .rules import AggregationRule
from .state import ClientResult, MethodState


def mean_of_factors(
    method: Method, state: MethodState, results: Mapping[int, ClientResult]
) -> MethodState:
    """The state after a round: every weight's pair is the mean of those that trained it.

    A weight that nobody has trained keeps its pair.
    """
    updates = {}
    for name, before in state.updates.items():
        brought = [one for one in results.values() if name in one.updates]
        updates[name] = _mean(method, name, before, brought) if brought else before
    after = replace(state, updates=updates)
    if method.pruning is None:
        return after
    ranks = {client: _pruned(method.pruning, state, result) for client, result in results.items()}
    return replace(after, client_ranks={**state.client_ranks, **ranks})


def _mean(method: Method, name: str, before: LowRank, brought: list[ClientResult]) -> LowRank:
    rule = method.aggregation
    trained = [one.updates[name] for one in brought]
    num_examples = [one.num_examples for one in brought]
    if rule is AggregationRule.SPARSITY_WEIGHTED:
        mean = sparsity_weighted(trained)
    elif rule is AggregationRule.PADDED_MEAN_OF_FACTORS:
        mean = pad_and_average(trained, num_examples)
    elif rule is AggregationRule.WEIGHTED_MEAN_OF_FACTORS:
        mean = average_factors(trained, num_examples)
    else:
        # Every client counts the same, whatever it trains on (SplitLoRA's reference code).
        mean = average_factors(trained, [1] * len(trained))
    if method.truncates:
        return mean
    # What clients of a lower rank than before have left as it was is still in the adapter.
    frozen = before.tail(mean.rank)
    return concatenate([mean, frozen]) if frozen.rank else mean


def _pruned(pruning: SelfPruning, state: MethodState, result: ClientResult) -> dict[str, int]:
    """The ranks that a client has next: lower ones, if its tails have shrunk by its steps."""
    ranks = {name: update.rank for name, update in result.updates.items() if update.rank}
    started = {
        name: initial_update(state.updates[name], rank, Start.FACTORS)
        for name, rank in ranks.items()
    }
    before, after = (
        sum(pruning.tail_norm(factors[name], rank) for name, rank in ranks.items())
        for factors in (started, result.updates)
    )
    return {name: pruning.pruned(r) for name, r in ranks.items()} if after < before else ranks
