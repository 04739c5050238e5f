"""What a method knows between rounds, and how a round changes it: a pure function.

Here are the rounds of a method and nothing of who runs them: a strategy of Flower's does, and so
does a trial in one process.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..adapters import LowRank, compress, concatenate, initial_update
from ..aggregation import (
    ClientUpdate,
    aggregate_adapters,
    average_factors,
    carried,
    check_client,
    next_velocities,
)
from ..importance import ImportanceHistory, ImportanceReport, blend, history_weight, mean_scores
from ..planning import drift
from ..settings import Aggregation
from ..types import Start, Weight
from .method import AggregationRule, Method


@dataclass(frozen=True, kw_only=True)
class ClientResult:
    """What one client brings home from a round, from both sides of its cut.

    ``updates`` are the folded factors that it ends with, of the ranks that it started with.
    """

    num_examples: int
    updates: Mapping[str, LowRank]
    importance: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MethodState:
    """The global adapter, and what a method keeps beside it.

    Attributes
    ----------
    updates
        ``ΔW_g`` of every weight: in canonical form where it is aggregated exactly, else the pair of
        factors that the clients' mean is.
    remainders
        What a rank cap has cut off, to be added before the next cut.
    velocities
        How far the last round went, of which momentum goes a share again.
    importance
        ``Ī_k``, over the rounds so far.
    dropped_energy
        The largest share of a weight's squared norm that is in its remainder.
    """

    updates: Mapping[str, LowRank]
    remainders: Mapping[str, LowRank] = field(default_factory=dict)
    velocities: Mapping[str, LowRank] = field(default_factory=dict)
    importance: ImportanceHistory = field(default_factory=ImportanceHistory)
    dropped_energy: float = 0.0

    @classmethod
    def fresh(cls, weights: Iterable[Weight]) -> "MethodState":
        """Before the first round: nothing is known of any weight."""
        return cls(
            updates={
                weight.name: LowRank.zeros(weight.out_features, weight.in_features)
                for weight in weights
            }
        )

    @property
    def ranks(self) -> dict[str, int]:
        """The rank of every weight's update."""
        return {name: update.rank for name, update in self.updates.items()}

    def with_updates(self, given: Mapping[str, LowRank], method: Method) -> "MethodState":
        """The same after another adapter was taken over; weights that it lacks have none."""
        is_pair = method.aggregation is AggregationRule.MEAN_OF_FACTORS
        updates = {
            name: mine.head(0)
            if name not in given
            else (given[name] if is_pair else compress(given[name]).update)
            for name, mine in self.updates.items()
        }
        return replace(self, updates=updates, remainders={}, velocities={})

    def check(self, trained: Mapping[str, LowRank]) -> None:
        """Refuse a client's update that cannot be aggregated, before it is.

        Raises
        ------
        AdapterError, NonFiniteError
            Naming the weight.
        """
        check_client(ClientUpdate(num_examples=1, trained=trained), self.updates)


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
    return _exact_sum(learned, results, start=start, options=options)


def learned_importance(
    history: ImportanceHistory, reports: list[ImportanceReport]
) -> ImportanceHistory:
    """Today's importance blended into what is known (``β_t``)."""
    today = mean_scores(reports)
    if not today:
        return history
    moved = drift(today, history.scores) if history.num_rounds else 1.0
    return blend(history, today, history_weight(history.num_rounds, moved))


def _exact_sum(
    state: MethodState,
    results: Mapping[int, ClientResult],
    *,
    start: Start,
    options: Aggregation,
) -> MethodState:
    clients = [
        ClientUpdate(
            num_examples=result.num_examples,
            trained=result.updates,
            initial={
                name: initial_update(state.updates[name], factors.rank, start)
                for name, factors in result.updates.items()
            },
        )
        for result in results.values()
    ]
    added = carried(state.remainders, state.velocities, beta=options.momentum)
    sums = aggregate_adapters(
        state.updates,
        clients,
        remainders=added,
        max_rank=options.rank_cap or None,
        dividing=options.dividing,
    )
    return replace(
        state,
        updates=dict(sums.updates),
        remainders=sums.remainders,
        velocities=next_velocities(
            state.updates,
            sums.updates,
            remainders_before=state.remainders,
            remainders_after=sums.remainders,
        )
        if options.momentum
        else {},
        dropped_energy=max(sums.dropped_energy.values(), default=0.0),
    )


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
