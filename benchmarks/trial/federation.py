"""The rounds of one setting: choose ranks, have each client train, let the method go on."""

import gc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks.trial.client import train_client
from benchmarks.trial.examples import Examples
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


def federated(setting: Setting, examples: Examples) -> list[float]:
    """Dev perplexity after each round."""
    base = base_model(setting.model)
    state = MethodState.fresh(architecture_of(setting.model).weights)
    curve = []
    for server_round in range(1, setting.num_rounds + 1):
        state = after_round(base, setting, examples, state, server_round)
        curve.append(perplexity(global_model(base, state), examples.dev, examples.pad_id))
        gc.collect()  # PEFT's layers refer to each other, so the clients' models linger
    return curve


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
    return {
        client: train_client(
            base,
            setting,
            examples,
            state,
            trained_ranks(
                setting.method,
                state,
                client,
                choose(architecture, setting, budget, state.importance.scores),
            ),
            server_round=server_round,
            client=client,
        )
        for client, budget in enumerate(setting.budgets)
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
