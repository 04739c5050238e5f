"""What was set is told, what differs from the defaults first."""

import dataclasses

from hsplit_flower.reports.page.sections.chosen import chosen, differences, flattened
from hsplit_flower.settings import GROUPS
from tests.reports.page.runs import run_of


def test_only_what_is_not_a_default_is_told_first() -> None:
    others, everything = chosen(run_of()).tables
    assert others.rows == (("training.learning-rate", "0.008", "0.001"),)
    assert ("training.batch-size", "16") in everything.rows


def test_a_run_of_all_defaults_differs_nowhere() -> None:
    config = {name: group().shown() for name, group in GROUPS.items()}
    (everything,) = chosen(dataclasses.replace(run_of(), config=config)).tables
    assert len(everything.rows) == sum(len(group) for group in config.values())


def test_runs_are_compared_by_key() -> None:
    table = differences([run_of(), run_of("day", strategy="fed-lora", num_rounds=9)])
    assert table.rows == (("strategy", "hsplit-lora", "fed-lora"), ("num-server-rounds", "4", "9"))


def test_keys_are_those_of_a_run_config() -> None:
    config = {"a": True, "group": {"b": None, "c": [1, 2]}}
    assert dict(flattened(config)) == {"a": "true", "group.b": "not set", "group.c": "1, 2"}
