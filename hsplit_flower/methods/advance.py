"""How a round changes what a method knows: a pure function.

Here are the rounds of a method and nothing of who runs them: a strategy of Flower's does, and so
does a trial in one process.
"""

from collections.abc import Mapping
from dataclasses import replace

from ..adapters import LowRank, concatenate
from ..aggregation import average_factors
from ..importance import ImportanceHistory, ImportanceReport, blend, history_weight, mean_scores
from ..planning import drift
from ..settings import Aggregation
from ..types import Start
from .exact_sum import exact_sum
from .method import AggregationRule, Method
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
    if method.aggregation is AggregationRule.MEAN_OF_FACTORS:
        return replace(learned, updates=_mean_of_factors(state, results))
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


def _mean_of_factors(state: MethodState, results: Mapping[int, ClientResult]) -> dict[str, LowRank]:
    """Every client counts the same, whatever it trains on (SplitLoRA's reference code)."""
    means = {}
    for name, before in state.updates.items():
        trained = [one.updates[name] for one in results.values() if name in one.updates]
        if not trained:
            means[name] = before
            continue
        mean = average_factors(trained, [1] * len(trained))
        # What clients of a lower rank than before have left as it was is still in the adapter.
        frozen = before.tail(mean.rank)
        means[name] = concatenate([mean, frozen]) if frozen.rank else mean
    return means
