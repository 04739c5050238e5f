"""What each row says, and what it refuses of a run's settings."""

from typing import Any

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.methods import (
    HSPLIT_LORA,
    METHODS,
    SPLIT_LORA,
    AggregationRule,
    CutRule,
    Method,
    RankRule,
)
from hsplit_flower.settings import Planning, RunSettings, Training, Worker
from hsplit_flower.strategies import STRATEGIES
from hsplit_flower.types import Labels, Start

FIXED = [row for row in METHODS.values() if row.start is not None]
FREE = [row for row in METHODS.values() if row.start is None and row.has_adapters]


def title(row: Method) -> str:
    return row.title


def test_hsplit_lora_chooses_by_budget_and_importance_and_sums_exactly() -> None:
    row = HSPLIT_LORA
    rules = row.cuts, row.ranks, row.aggregation
    assert rules == (CutRule.BY_BUDGET, RankRule.BY_IMPORTANCE, AggregationRule.EXACT_SUM)
    assert not row.shares_server_adapter
    assert row.start is None, "both of its starts are exact"


def test_split_lora_has_one_of_everything_and_averages_factors() -> None:
    row = SPLIT_LORA
    rules = row.cuts, row.ranks, row.aggregation
    assert rules == (CutRule.ONE_FOR_ALL, RankRule.ONE_FOR_ALL, AggregationRule.MEAN_OF_FACTORS)
    assert row.shares_server_adapter
    assert row.start is Start.FACTORS


def test_rows_go_by_their_names_and_strategies_by_those_of_their_rows() -> None:
    assert {name: row.name for name, row in METHODS.items()} == {name: name for name in METHODS}
    assert STRATEGIES.keys() <= METHODS.keys()
    for name, strategy in STRATEGIES.items():
        assert strategy("llama-tiny").method is METHODS[name]


@pytest.mark.parametrize("row", FIXED, ids=title)
def test_a_row_that_fixes_the_start_refuses_another_one_that_is_asked_for(row: Method) -> None:
    for start in set(Start) - {row.start}:
        with pytest.raises(
            ConfigError, match=rf"(?s){row.title}.*training.start is '{start.value}'"
        ):
            row.training(Training(start=start))


@pytest.mark.parametrize("row", FIXED, ids=title)
def test_a_row_that_fixes_the_start_decides_it_where_nothing_is_asked_for(row: Method) -> None:
    asked = Training(learning_rate=0.3, batch_size=7)
    settled = row.training(asked)
    labels = asked.labels if row.is_split else Labels.CLIENT
    assert settled == asked.replace(start=row.start, labels=labels)
    assert row.training(settled) == settled, "asking for what it is is no contradiction"


@pytest.mark.parametrize("row", FREE, ids=title)
@pytest.mark.parametrize("start", [Start.CONTINUE, Start.RESTART])
def test_another_row_leaves_the_start_to_the_settings(row: Method, start: Start) -> None:
    assert row.training(Training(start=start)).start is start
    assert row.training(Training()) == Training()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"labels": Labels.CLIENT}, ["training.labels is 'client'"]),
        ({"micro_batch_size": 2}, ["training.micro-batch-size is 2"]),
        ({"gradient_accumulation_steps": 2}, ["training.gradient-accumulation-steps is 2"]),
        ({"max_gradient_norm": 1.0}, ["training.max-gradient-norm is 1"]),
        (
            {"labels": Labels.CLIENT, "micro_batch_size": 2},
            ["training.labels is 'client'", "training.micro-batch-size is 2"],
        ),
    ],
)
def test_split_lora_refuses_by_name_what_one_adapter_for_all_cannot_do(
    settings: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        SPLIT_LORA.training(Training(**settings))
    message = str(caught.value)
    assert message.startswith("SplitLoRA has ")
    assert all(part in message for part in named)
    assert HSPLIT_LORA.training(Training(**settings)) == Training(**settings)


@pytest.mark.parametrize("row", METHODS.values(), ids=title)
def test_plans_are_made_from_the_limits_and_the_rules(row: Method) -> None:
    planning = Planning(max_rank=5, min_cut=2, margin=0.5)
    training = row.training(Training(labels=Labels.SERVER))
    settings = row.plan_settings(planning, training)
    assert planning.given().items() <= settings.given().items()
    assert (settings.labels, settings.start) == (training.labels, training.start)
    assert settings.one_cut == (row.cuts is CutRule.ONE_FOR_ALL)
    assert settings.one_rank == (row.ranks is RankRule.ONE_FOR_ALL)


def test_one_adapter_on_the_worker_wants_one_worker() -> None:
    """A pool's workers would step an adapter each."""
    for num_workers in (0, 2):
        pool = RunSettings(worker=Worker(placement="ray", num_workers=num_workers))
        with pytest.raises(ConfigError, match=rf"worker.num-workers = {num_workers}: it has one"):
            SPLIT_LORA.settings(pool)
        assert HSPLIT_LORA.settings(pool) == pool
    one = RunSettings(worker=Worker(placement="ray", num_workers=1))
    assert SPLIT_LORA.settings(one).worker == one.worker
