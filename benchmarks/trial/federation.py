"""The rounds of one setting: choose ranks, have each client train, let the method go on."""

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.trial.client import train_client
from benchmarks.trial.examples import Examples
from benchmarks.trial.in_turn import train_in_turn
from benchmarks.trial.ranks import choose
from benchmarks.trial.setting import Setting
from benchmarks.trial.whole_model import (
    architecture_of,
    base_model,
    global_model,
    perplexity,
)
from benchmarks.trial.whole_model import with_updates as with_updates
from hsplit_flower.importance import ImportanceHistory
from hsplit_flower.methods import ClientResult, MethodState, advance, trained_ranks


@dataclass(frozen=True, kw_only=True)
class Round:
    """What came of one round: dev perplexity, what is known after it, what clients brought home."""

    number: int
    perplexity: float
    state: MethodState
    results: Mapping[int, ClientResult]


def federated(setting: Setting, examples: Examples) -> list[float]:
    """Dev perplexity after each round."""
    return [one.perplexity for one in rounds(setting, examples)]


def rounds(setting: Setting, examples: Examples) -> Iterator[Round]:
    """Each round, as it ends."""
    base = base_model(setting.model)
    state = MethodState.fresh(architecture_of(setting.model).weights)
    for server_round in range(1, setting.num_rounds + 1):
        results = trained(base, setting, examples, state, server_round)
        state = aggregated(setting, state, results)
        found = perplexity(global_model(base, state), examples.dev, examples.pad_id)
        yield Round(number=server_round, perplexity=found, state=state, results=results)
        del results
        gc.collect()  # PEFT's layers refer to each other, so the clients' models linger


def after_round(
    base: Any, setting: Setting, examples: Examples, state: MethodState, server_round: int
) -> MethodState:
    """What the method knows after every client has trained once."""
    return aggregated(setting, state, trained(base, setting, examples, state, server_round))


def trained(
    base: Any, setting: Setting, examples: Examples, state: MethodState, server_round: int
) -> dict[int, ClientResult]:
    """What each client brings home from a round."""
    architecture = architecture_of(setting.model)
    ranks = {
        client: trained_ranks(
            setting.method,
            state,
            client,
            choose(architecture, setting, budget, state.importance.scores),
        )
        for client, budget in enumerate(setting.budgets)
        if client not in setting.absent
    }
    if setting.method.shares_server_adapter:
        return train_in_turn(base, setting, examples, state, ranks, server_round=server_round)
    return {
        client: train_client(
            base, setting, examples, state, own, server_round=server_round, client=client
        )
        for client, own in ranks.items()
    }


def aggregated(
    setting: Setting, state: MethodState, results: Mapping[int, ClientResult]
) -> MethodState:
    """What the method knows after a round that brought this."""
    if not setting.history:
        state = replace(state, importance=ImportanceHistory())
    return advance(
        setting.method,
        state,
        results,
        start=setting.method.training(setting.training).start,
        options=setting.aggregation,
    )
