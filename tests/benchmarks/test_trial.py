"""A trial's rounds are those of the method's row, and its results are found again."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from benchmarks.main_job import keys_of
from benchmarks.trial import Examples, Setting, as_kept, base_model, federated, federation, key_of
from benchmarks.trial.federation import after_round, architecture_of
from hsplit_flower.adapters import LowRank, SelfPruning
from hsplit_flower.errors import ConfigError
from hsplit_flower.methods import (
    HET_LORA,
    HSPLIT_LORA,
    METHODS,
    SPLIT_LORA,
    ClientResult,
    Method,
    MethodState,
    RankRule,
)
from hsplit_flower.settings import Aggregation, Planning, Training
from hsplit_flower.types import Dividing, Start
from tests.reference import aggregation as reference

# As all methods but SplitLoRA did it when the first files were written.
OWN_DRAWS = replace(HSPLIT_LORA, one_draw=False)
PLAIN = Setting(
    model="llama-tiny",
    dataset="restaurants",
    budgets=(2.0, 3.5),
    training=Training(learning_rate=4e-3, batch_size=2, seed=3),
    num_rounds=2,
    local_steps=1,
    evaluation_examples=4,
    autocast=False,
)
# As it stands in a file of the time when a trial's fields were its own.
FIRST_LINE = {
    "model": "/elsewhere/gpt2-tiny",
    "dataset": "/elsewhere/e2e",
    "seed": 1,
    "budgets": [2.0, 3.2, 4.4, 6.0, 8.0],
    "learning_rate": 0.004,
    "lora_alpha": 8.0,
    "scale_rule": "constant",
    "allocation": "floor",
    "start": "restart",
    "dividing": "holders",
    "rank_unit": 1,
    "max_rank": 16,
    "gain_base": 0.5,
    "means": False,
    "probe_steps": 1,
    "history": True,
    "num_rounds": 4,
    "local_steps": 10,
    "batch_size": 8,
    "evaluation_examples": 500,
    "max_length": 192,
    "autocast": True,
}


def trained(
    setting: Setting, examples: Examples, state: MethodState, server_round: int
) -> list[ClientResult]:
    """What each client brings home, as the trial has it."""
    results = federation.trained(base_model("llama-tiny"), setting, examples, state, server_round)
    return [results[client] for client in sorted(results)]


def dense(updates: Mapping[str, LowRank]) -> dict[str, torch.Tensor]:
    return {name: (update.b.double() @ update.a.double()) for name, update in updates.items()}


def learnt(state: MethodState) -> dict[str, torch.Tensor]:
    """All of it, with what the adapter has no room for."""
    return {name: reference.dense(state.sum_of(name)) for name in state.updates}


@pytest.mark.long
@pytest.mark.parametrize("start", [Start.CONTINUE, Start.RESTART])
def test_a_round_of_hsplit_lora_adds_the_weighted_mean_of_what_clients_changed(
    examples: Examples, start: Start
) -> None:
    setting = PLAIN.changed({"training.start": start})
    base, state = base_model("llama-tiny"), MethodState.fresh(architecture_of("llama-tiny").weights)
    for server_round in (1, 2):
        results = trained(setting, examples, state, server_round)
        total = sum(result.num_examples for result in results)
        wanted = learnt(state)
        for result in results:
            for name, end in result.updates.items():
                # A client of rank r started from the leading r directions, or from nothing.
                first = state.updates[name].head(end.rank if start is Start.CONTINUE else 0)
                changed = end.b.double() @ end.a.double() - first.b.double() @ first.a.double()
                wanted[name] += result.num_examples / total * changed
        ranks = [sum(update.rank for update in result.updates.values()) for result in results]
        assert ranks[0] < ranks[1]
        state = after_round(base, setting, examples, state, server_round)
        for name, got in learnt(state).items():
            torch.testing.assert_close(got, wanted[name], rtol=0, atol=1e-6)
        assert state.importance.num_rounds == server_round
    assert any(update.rank for update in state.updates.values())


@pytest.mark.long
def test_a_round_of_split_lora_is_the_plain_mean_of_factors_of_one_rank(
    examples: Examples,
) -> None:
    setting = PLAIN.changed({"method": SPLIT_LORA})
    base, state = base_model("llama-tiny"), MethodState.fresh(architecture_of("llama-tiny").weights)
    for server_round in (1, 2):
        first, second = (
            result.updates for result in trained(setting, examples, state, server_round)
        )
        assert {update.rank for update in (*first.values(), *second.values())} == {2}
        state = after_round(base, setting, examples, state, server_round)
        for name, got in state.updates.items():
            torch.testing.assert_close(got.b, (first[name].b + second[name].b) / 2)
            torch.testing.assert_close(got.a, (first[name].a + second[name].a) / 2)


@pytest.mark.long
def test_clients_start_from_one_draw_where_the_method_says_so(examples: Examples) -> None:
    still = PLAIN.changed({"training.learning_rate": 1e-12})
    fresh = MethodState.fresh(architecture_of("llama-tiny").weights)
    name = next(iter(fresh.updates))
    restarting = replace(HSPLIT_LORA, start=Start.RESTART)
    cases = (
        (SPLIT_LORA, True),
        (HSPLIT_LORA, True),
        (OWN_DRAWS, False),
        (restarting, False),
    )
    for method, shares in cases:
        setting = replace(still, method=method, budgets=(2.0, 2.0))
        first, second = (result.updates[name].a for result in trained(setting, examples, fresh, 1))
        assert torch.allclose(first, second) == shares


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS.values(), ids=lambda row: row.name)
def test_every_method_learns(examples: Examples, method: Method) -> None:
    # All weights at once go as far with smaller steps.
    learning_rate = 4e-3 if method.has_adapters else 4e-4
    changes = {"method": method, "local_steps": 3, "training.learning_rate": learning_rate}
    curve = federated(PLAIN.changed(changes), examples)
    assert len(curve) == 2
    assert curve[1] < curve[0]


@pytest.mark.long
def test_without_history_importance_is_that_of_the_round(examples: Examples) -> None:
    base, fresh = base_model("llama-tiny"), MethodState.fresh(architecture_of("llama-tiny").weights)
    before = after_round(base, PLAIN, examples, fresh, 1)
    results = trained(PLAIN, examples, before, 2)
    total = sum(result.num_examples for result in results)
    today = {
        name: sum(result.num_examples / total * result.importance[name] for result in results)
        for name in before.updates
    }
    blended = after_round(base, PLAIN, examples, before, 2)
    alone = after_round(base, replace(PLAIN, history=False), examples, before, 2)
    assert alone.importance.scores == pytest.approx(today)
    assert blended.importance.scores != pytest.approx(today)


def test_results_of_the_first_files_are_found_again() -> None:
    setting = Setting(
        model="/here/gpt2-tiny",
        dataset="/here/e2e",
        budgets=(2.0, 3.2, 4.4, 6.0, 8.0),
        training=Training(learning_rate=4e-3, batch_size=8),
        num_rounds=4,
        local_steps=10,
        method=OWN_DRAWS,
        aggregation=Aggregation(mean_rank=0),
        floor=True,
    ).changed(
        {
            "training.seed": 1,
            "training.lora_alpha": 8.0,
            "training.scale_rule": "constant",
            "training.start": "restart",
            "aggregation.dividing": Dividing.HOLDERS,
            "planning.gain_base": 0.5,
        }
    )
    assert key_of(as_kept(setting)) == key_of(FIRST_LINE)
    uniform = replace(setting, floor=False, method=replace(OWN_DRAWS, ranks=RankRule.UNIFORM))
    assert key_of(as_kept(uniform)) == key_of({**FIRST_LINE, "allocation": "uniform"})


@pytest.mark.parametrize(
    "changes",
    [
        {"aggregation.momentum": 0.3},
        {"aggregation.rank_cap": 40},
        {"aggregation.mean_rank": 4},
        {"aggregation.adapter_dtype": "float32"},
        {"method": OWN_DRAWS},
        {"training.weight_decay": 0.1},
        {"training.seed": 4},
        {"planning.max_rank": 8},
        {"method": SPLIT_LORA},
        {"history": False},
    ],
    ids=str,
)
def test_what_decides_a_result_is_in_its_key(changes: dict[str, object]) -> None:
    assert key_of(as_kept(PLAIN.changed(changes))) != key_of(as_kept(PLAIN))


def test_every_row_has_a_key_of_its_own_and_so_has_another_penalty() -> None:
    strong = replace(HET_LORA, pruning=SelfPruning(penalty=1.0))
    rows = [*METHODS.values(), strong]
    assert len({key_of(as_kept(PLAIN.changed({"method": row}))) for row in rows}) == len(rows)


def test_a_jobs_groups_are_keys_of_the_run_config() -> None:
    assert keys_of("training", Training(learning_rate=8e-3, start=Start.RESTART)) == {
        "training.learning-rate": 8e-3,
        "training.start": "restart",
    }
    assert keys_of("planning", Planning()) == {}
    assert keys_of("aggregation", Aggregation(momentum=0.3)) == {"aggregation.momentum": 0.3}


def test_a_recipe_that_a_trial_would_not_follow_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"does not follow training's schedule, lora-dropout"):
        PLAIN.changed({"training.schedule": "linear", "training.lora_dropout": 0.1})
