"""How a round changes what a method knows: a pure function.

Here are the rounds of a method and nothing of who runs them: a strategy of Flower's does, and so
does a trial in one process.
"""

from collections.abc import Mapping
from dataclasses import replace

from ..adapters import LowRank, compress
from ..aggregation import aggregate_adapters, dense_svd, mean_of_weights
from ..importance import ImportanceHistory, ImportanceReport, blend, history_weight, mean_scores
from ..planning import drift
from ..settings import Aggregation
from ..types import Start
from .exact_sum import as_client_update, exact_sum
from .factor_means import mean_of_factors
from .method import Method
from .rules import AggregationRule
from .state import ClientResult, MethodState


def advance(
    method: Method,
    state: MethodState,
    results: Mapping[int, ClientResult],
    *,
    start: Start,
    options: Aggregation,
) -> MethodState:
    """The state after a round.

    Parameters
    ----------
    method, state
        Whose round it was, and what was known before.
    results
        By client, of those that finished it: one or more.
    start
        What they started from, and so what an exact sum takes off.
    options
        Of the aggregation.
    """
    reports = [
        ImportanceReport(num_examples=result.num_examples, scores=result.importance)
        for result in results.values()
    ]
    learned = replace(state, importance=learned_importance(state.importance, reports))
    if method.keeps_pair:
        return mean_of_factors(method, learned, results)
    if method.aggregation is AggregationRule.MEAN_OF_WEIGHTS:
        return _mean_of_weights(learned, results)
    if method.aggregation is AggregationRule.BEST_RANK:
        return _best_ranks(learned, results)
    if method.aggregation is AggregationRule.STACKED:
        return _stacked(learned, results)
    return exact_sum(learned, results, start=start, options=options)


def learned_importance(
    history: ImportanceHistory, reports: list[ImportanceReport]
) -> ImportanceHistory:
    """Today's importance blended into what is known (``β_t``)."""
    today = mean_scores(reports)
    if not today:
        return history
    moved = drift(today, history.scores) if history.num_rounds else 1.0
    return blend(history, today, history_weight(history.num_rounds, moved))


def _mean_of_weights(state: MethodState, results: Mapping[int, ClientResult]) -> MethodState:
    """``W ← Σ p_k W_k``."""
    num_examples = [result.num_examples for result in results.values()]
    weights = mean_of_weights([result.weights for result in results.values()], num_examples)
    return replace(state, weights=weights)


def _stacked(state: MethodState, results: Mapping[int, ClientResult]) -> MethodState:
    """``ΔW ← ΔW + [p_1 B_1, p_2 B_2, …] · [A_1; A_2; …]``, in canonical form."""
    clients = [as_client_update(result, state, Start.RESTART) for result in results.values()]
    return replace(state, updates=aggregate_adapters(state.updates, clients))


def _best_ranks(state: MethodState, results: Mapping[int, ClientResult]) -> MethodState:
    """``Σ p_k B_k A_k`` as a dense matrix, of which each rank's best part is a head.

    Nothing else of the adapter before is in it: what clients were not sent is gone.
    """
    return replace(
        state,
        updates={name: _best_rank(name, old, results) for name, old in state.updates.items()},
    )


def _best_rank(name: str, before: LowRank, results: Mapping[int, ClientResult]) -> LowRank:
    trained = [result.updates.get(name, before.head(0)) for result in results.values()]
    rank = sum(update.rank for update in trained)
    if not rank:
        return before
    num_examples = [result.num_examples for result in results.values()]
    # Without the directions that are there by rounding alone.
    return compress(dense_svd(trained, num_examples, rank=rank))
