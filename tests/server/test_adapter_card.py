"""What a card is told of a run and of an adapter."""

import re
from dataclasses import replace

import torch

from hsplit_flower.adapters import LowRank
from hsplit_flower.methods import HSPLIT_LORA
from hsplit_flower.reports.history import RunHistory
from hsplit_flower.server.adapter_card import (
    adapter_card,
    padded_bytes,
    recipe_of,
    run_perplexities,
)

HISTORY = RunHistory(
    num_rounds=3, num_completed=2, last_completed=2, num_clients=4, perplexities={0: 9.0, 2: 3.0}
)
CONFIG = {
    "dataset": "restaurants",
    "local-steps": 10,
    "output-dir": "somewhere",
    "model": {"name": "owner/base", "revision": "v1"},
    "training": {"learning-rate": 0.5, "micro-batch-size": None},
}


def update(rank: int) -> LowRank:
    return LowRank(b=torch.ones(6, rank), a=torch.ones(rank, 4))


def test_it_says_what_the_run_was_and_what_the_adapter_is() -> None:
    updates = {"a": update(3), "b": update(1), "c": update(0)}
    card = adapter_card(
        CONFIG,
        HSPLIT_LORA,
        HISTORY,
        updates,
        dtype=torch.float16,
        dropped_energy=0.25,
        perplexities=(9.0, None),
    )
    for words in (
        "owner/base, revision v1",
        "HSplitLoRA (Lin et al., arXiv 2505.02795)",
        "2 rounds, with 4 clients",
        "| data | restaurants |",
        "| local-steps | 10 |",
        "| learning-rate | 0.5 |",
        "| rank | 3,",
        "| size | 120 B |",
        "of the base | 9 |",
        "with the adapter | not measured |",
        "| 25 % |",
    ):
        assert words in card, words
    assert "somewhere" not in card


def test_what_is_written_is_padded_to_the_highest_rank() -> None:
    assert padded_bytes({"a": update(3), "b": update(1), "c": update(0)}, torch.float32) == 240
    assert padded_bytes({}, torch.float32) == 0


def test_a_run_that_began_with_an_adapter_has_not_measured_its_base() -> None:
    assert run_perplexities(CONFIG, HISTORY) == (9.0, 3.0)
    assert run_perplexities({**CONFIG, "adapter": "x"}, HISTORY) == (None, 3.0)
    assert run_perplexities(CONFIG, replace(HISTORY, perplexities={})) == (None, None)


def test_the_recipe_is_the_trainings_and_what_of_the_app_decides() -> None:
    assert recipe_of(CONFIG) == {"local-steps": 10, "learning-rate": 0.5, "micro-batch-size": None}
    assert recipe_of({"model": {}}) == {}


def test_it_is_one_card_whatever_is_not_known() -> None:
    card = adapter_card(
        {"model": {"name": "llama-tiny"}},
        HSPLIT_LORA,
        RunHistory(),
        {"a": update(1)},
        dtype=torch.float32,
        dropped_energy=0.0,
        perplexities=(None, None),
    )
    assert re.search(r"\| data \| not named \|", card)
