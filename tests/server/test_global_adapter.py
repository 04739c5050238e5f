"""The global adapter as Flower carries it: what is taken over, given out, and refused."""

import math

import pytest
import torch
from flwr.app import ArrayRecord
from peft import LoraConfig

from hsplit_flower.adapters import LowRank, from_state_dict, to_state_dict
from hsplit_flower.errors import AdapterError, ConfigError
from hsplit_flower.methods import HSPLIT_LORA, ClientResult, MethodState, advance
from hsplit_flower.server.global_adapter import adapter_below, adapter_from, starting_arrays
from hsplit_flower.server.state import RunState
from hsplit_flower.settings import Aggregation
from hsplit_flower.types import Span, Start
from tests.reference.aggregation import dense, relative_error
from tests.rounds import architecture, global_update

LLAMA = architecture("llama")
NAME = "model.layers.1.mlp.gate_proj"


def record(updates: dict[str, LowRank]) -> ArrayRecord:
    return ArrayRecord(to_state_dict(updates))


def random_update(rank: int = 3, name: str = NAME) -> LowRank:
    weight = next(weight for weight in LLAMA.weights if weight.name == name)
    return LowRank(
        b=torch.randn(weight.out_features, rank), a=torch.randn(rank, weight.in_features)
    )


def test_a_run_starts_from_no_arrays_for_every_weight() -> None:
    state = RunState.fresh(LLAMA.weights)
    assert len(state.arrays) == 0
    assert adapter_from(state.arrays, LLAMA) == {}
    assert set(state.method.updates) == {weight.name for weight in LLAMA.weights}


def test_what_arrays_hold_is_what_was_put_in() -> None:
    given = {NAME: random_update(6)}
    taken = adapter_from(record(given), LLAMA)
    assert set(taken) == {NAME}
    assert torch.equal(taken[NAME].b, given[NAME].b)
    assert torch.equal(taken[NAME].a, given[NAME].a)


def test_each_client_gets_the_weights_below_its_cut() -> None:
    fresh = MethodState.fresh(LLAMA.weights)
    updates = fresh.with_updates(global_update("llama"), HSPLIT_LORA, Aggregation()).updates
    for cut in (1, 2, 3):
        arrays = adapter_below(updates, Span(start=0, stop=cut), LLAMA)
        below = from_state_dict(arrays.to_torch_state_dict())
        wanted = {w.name for w in LLAMA.weights if w.block < cut and updates[w.name].rank}
        assert set(below) == wanted
        assert all(torch.equal(below[name].b, updates[name].b) for name in wanted)


def test_what_is_aggregated_makes_new_arrays() -> None:
    state = RunState.fresh(LLAMA.weights)
    results = {1: ClientResult(num_examples=3, updates={NAME: random_update()})}
    learned = advance(
        HSPLIT_LORA, state.method, results, start=Start.RESTART, options=Aggregation()
    )
    after = state.with_method(learned)
    assert after.arrays is not state.arrays
    assert len(state.arrays) == 0
    again = adapter_from(after.arrays, LLAMA)
    assert relative_error(again[NAME], dense(learned.updates[NAME])) < 1e-6


def test_an_adapter_of_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="the model lacks"):
        adapter_from(record({"transformer.h.0.attn.c_attn": random_update()}), LLAMA)
    with pytest.raises(ConfigError, match=r"of \[16, 24\], the model's is \[24, 16\]"):
        adapter_from(record({NAME: LowRank(b=torch.ones(16, 1), a=torch.ones(1, 24))}), LLAMA)


def test_an_adapter_that_is_not_finite_is_refused() -> None:
    for value in (math.nan, math.inf):
        update = random_update()
        update.a[1, 2] = value
        with pytest.raises(ConfigError, match=f"{NAME}.*holds NaN or infinity"):
            adapter_from(record({NAME: update}), LLAMA)


PEFT_NAME = f"base_model.model.{NAME}"
CONFIG = LoraConfig(r=3, lora_alpha=12)


def test_a_run_starts_from_nothing_or_from_the_very_arrays_that_are_given() -> None:
    """They are known again by who they are."""
    assert len(starting_arrays(None, None)) == 0
    given = record({NAME: random_update()})
    assert starting_arrays(given, None) is given


@pytest.mark.parametrize("config", [CONFIG, CONFIG.to_dict()])
def test_pefts_arrays_start_with_pefts_scale(config: LoraConfig) -> None:
    update = random_update()
    arrays = starting_arrays(record({PEFT_NAME: update}), config)
    taken = adapter_from(arrays, LLAMA)
    assert relative_error(taken[NAME], 4 * dense(update)) < 1e-6


@pytest.mark.parametrize(
    ("arrays", "config", "message"),
    [
        ({PEFT_NAME}, None, r"alpha / r.*initial_config.*import_adapter\(folder\)"),
        ({PEFT_NAME, NAME}, CONFIG, "under PEFT's prefix, and .* without it"),
        ({PEFT_NAME, NAME}, None, "under PEFT's prefix, and .* without it"),
        ({NAME}, CONFIG, "is folded in: leave the configuration out"),
        (set(), CONFIG, "lack it"),
        (None, CONFIG, "without initial_arrays"),
    ],
)
def test_arrays_whose_scale_is_not_known_are_refused(
    arrays: set[str] | None, config: LoraConfig | None, message: str
) -> None:
    given = None if arrays is None else record({name: random_update() for name in sorted(arrays)})
    with pytest.raises(ConfigError, match=message):
        starting_arrays(given, config)


def test_what_is_more_than_plain_lora_is_refused_by_name() -> None:
    given = record({PEFT_NAME: random_update()})
    with pytest.raises(AdapterError, match=r"not plain LoRA[^\0]*use_dora"):
        starting_arrays(given, LoraConfig(r=3, lora_alpha=12, use_dora=True))
    with pytest.raises(AdapterError, match="its rank is 4 in the PEFT configuration"):
        starting_arrays(given, LoraConfig(r=4, lora_alpha=12))
