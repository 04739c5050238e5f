"""Factors under PEFT's keys: no scale is lost, by any reader's rule, on the way out or in."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn
from transformers import LlamaConfig

from hsplit_flower.adapters import LowRank, from_state_dict, to_state_dict, updates_of_peft
from hsplit_flower.adapters.peft_state import padded_state_dict
from hsplit_flower.errors import AdapterError
from tests.families import LLAMA_SHAPED, random_model
from tests.reference.unsplit import peft_calls_old_names
from tests.tolerances import RELATIVE, distance

PREFIX = "base_model.model."
PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}


def update_of(rank: int, seed: int = 0, b_size: float = 1.0, a_size: float = 1.0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    return LowRank(
        b=b_size * torch.randn(5, rank, generator=generator),
        a=a_size * torch.randn(rank, 3, generator=generator),
    )


def state_of(name: str = "x.0.up", rank: int = 4, dtype: torch.dtype = torch.float32) -> Any:
    state = to_state_dict({f"{PREFIX}{name}": update_of(rank)})
    return {key: tensor.to(dtype) for key, tensor in state.items()}


RULES = {
    "PEFT, vLLM": lambda config, b: config["lora_alpha"] / config["r"],
    "llama.cpp": lambda config, b: config["lora_alpha"] / b.shape[1],
    "rank of A": lambda config, b: config["lora_alpha"] / max(config["r"], b.shape[1]),
}


@given(
    ranks=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any), seed=st.integers(0, 99)
)
def test_all_readers_rules_give_the_same_products(ranks: list[int], seed: int) -> None:
    updates = {f"x.{i}.up": update_of(rank, seed + i) for i, rank in enumerate(ranks)}
    state = padded_state_dict(updates, torch.float32)
    # As export_adapter writes it.
    config = {"r": max(ranks), "lora_alpha": max(ranks)}
    assert len(state) == 2 * sum(1 for rank in ranks if rank)
    for name, update in updates.items():
        if not update.rank:
            continue
        a, b = (state[f"{PREFIX}{name}.lora_{kind}.weight"] for kind in "AB")
        assert b.shape[1] == a.shape[0] == max(ranks)
        wanted = update.b.double() @ update.a.double()
        for scale in RULES.values():
            got = scale(config, b) * (b.double() @ a.double())
            assert distance(got, wanted) <= 1e-6


@given(
    b_size=st.floats(1e-18, 1e18),
    a_size=st.floats(1e-18, 1e18),
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
)
def test_half_precision_holds_any_product_of_ordinary_size(
    b_size: float, a_size: float, dtype: torch.dtype
) -> None:
    """However its size is divided among the factors."""
    a_size = a_size if 1e-4 < b_size * a_size < 1e4 else 1 / b_size
    update = update_of(3, b_size=b_size, a_size=a_size)
    state = padded_state_dict({"x.up": update}, dtype)
    got = (
        state[f"{PREFIX}x.up.lora_B.weight"].double()
        @ state[f"{PREFIX}x.up.lora_A.weight"].double()
    )
    assert distance(got, update.b.double() @ update.a.double()) <= RELATIVE[dtype]


def test_directions_that_are_nothing_are_written() -> None:
    update = LowRank(b=torch.zeros(5, 2), a=torch.randn(2, 3))
    state = padded_state_dict({"x.up": update}, torch.float16)
    assert all(tensor.isfinite().all() for tensor in state.values())


@pytest.mark.parametrize(
    ("update", "dtype", "message"),
    [
        (update_of(2, b_size=1e10, a_size=1e10), torch.float16, "ends at 6.55e\\+04.*bfloat16"),
        (update_of(2, b_size=math.nan), torch.float32, "'x.up' holds NaN or infinity"),
        (update_of(2, a_size=math.inf), torch.float16, "'x.up' holds NaN or infinity"),
        (update_of(2), torch.float64, "dtype is torch.float64, wanted"),
        (update_of(2), torch.int8, "dtype is torch.int8, wanted"),
    ],
)
def test_what_cannot_be_written_is_refused(
    update: LowRank, dtype: torch.dtype, message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        padded_state_dict({"x.up": update}, dtype)


# Older versions of PEFT look for the configuration of a model that was never saved.
@pytest.mark.filterwarnings("ignore:Could not find a config file")
@torch.no_grad()
def test_what_peft_gives_is_read_with_its_own_configuration() -> None:
    with peft_calls_old_names():
        config = LoraConfig(
            r=4, lora_alpha=32, target_modules=["q_proj", "up_proj"], init_lora_weights=False
        )
        model = get_peft_model(random_model(LlamaConfig(**LLAMA_SHAPED)), config)
    state = get_peft_model_state_dict(model)
    updates = updates_of_peft(state, model.peft_config["default"])
    assert updates
    for name, update in updates.items():
        layer = model.base_model.model.get_submodule(name)
        assert distance(update.dense(), layer.get_delta_weight("default")) < 1e-6
        assert not update.b.requires_grad
    bare = {key.removeprefix(PREFIX): tensor for key, tensor in state.items()}
    assert updates_of_peft(bare, config).keys() == updates.keys()


@given(ranks=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_what_is_written_comes_back_without_its_padding(ranks: list[int]) -> None:
    updates = {f"x.{i}.up": update_of(rank, i) for i, rank in enumerate(ranks)}
    config = {**PLAIN, "r": max(ranks), "lora_alpha": max(ranks)}
    back = updates_of_peft(padded_state_dict(updates, torch.float32), config)
    for name, update in updates.items():
        assert torch.equal(back[name].b, update.b) and torch.equal(back[name].a, update.a)


def test_a_fresh_adapter_keeps_its_directions() -> None:
    """B is zero in it and A is not: that is no padding."""
    state = state_of()
    state[f"{PREFIX}x.0.up.lora_B.weight"].zero_()
    assert updates_of_peft(state, PLAIN)["x.0.up"].rank == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_float32(dtype: torch.dtype) -> None:
    state = state_of(dtype=dtype)
    update = updates_of_peft(state, PLAIN)["x.0.up"]
    assert update.b.dtype == update.a.dtype == torch.float32
    assert torch.equal(update.b, 2 * state[f"{PREFIX}x.0.up.lora_B.weight"].float())


def changed(key: str, tensor: Tensor) -> dict[str, Tensor]:
    return state_of() | {f"{PREFIX}x.0.up.{key}": tensor}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed("lora_A.weight", torch.full((4, 3), math.nan)), "'x.0.up' has factors with NaN"),
        (changed("lora_B.weight", torch.full((5, 4), 3e38)), "NaN or infinity, multiplied by 2"),
        (changed("lora_A.weight", torch.ones(4, 3, dtype=torch.int8)), "a factor of torch.int8"),
        (changed("lora_A.weight", torch.ones(3)), r"lora_A \[3\], but its rank is 4"),
        (changed("lora_B.weight", torch.ones(5, 6)), r"lora_B \[5, 6\].*its rank is 4.*r, rank_p"),
        (state_of(rank=6), r"lora_B \[5, 6\] and lora_A \[6, 3\], but its rank is 4"),
        (state_of(rank=2), r"lora_B \[5, 2\] and lora_A \[2, 3\], but its rank is 4"),
        (changed("lora_B.bias", torch.ones(5)), "it is a bias"),
        (changed("lora_magnitude_vector", torch.ones(5)), "it is DoRA's"),
        (changed("lora_A.default.weight", torch.ones(4, 3)), "get_peft_model_state_dict"),
        (state_of() | {f"{PREFIX}lm_head.weight": torch.ones(2, 2)}, "unexpected tensor"),
        (state_of() | {f"{PREFIX}embed_tokens.weight": torch.ones(2, 2)}, "it is of an embedding"),
        (state_of() | {f"{PREFIX}wte.lora_embedding_A": torch.ones(2, 2)}, "it is of an embedding"),
        (state_of() | {"x.1.up.lora_A.weight": torch.ones(4, 3)}, "'x.1.up.lora_A.weight' is not"),
    ],
)
def test_tensors_that_are_not_the_configurations_are_refused(
    state: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        updates_of_peft(state, PLAIN)


def test_state_dicts_hold_what_has_a_rank() -> None:
    updates = {"a.up": LowRank(b=torch.randn(4, 2), a=torch.randn(2, 3)), "b": LowRank.zeros(4, 3)}
    state = to_state_dict(updates)
    assert sorted(state) == ["a.up.lora_A.weight", "a.up.lora_B.weight"]
    back = from_state_dict(state)
    assert list(back) == ["a.up"]
    assert torch.equal(back["a.up"].b, updates["a.up"].b)
    assert torch.equal(back["a.up"].a, updates["a.up"].a)
    assert from_state_dict({}) == {}


@pytest.mark.parametrize("key", ["a.weight", "lora_A.weight", "a.lora_C.weight", ".lora_A.weight"])
def test_keys_that_are_no_factors_are_refused(key: str) -> None:
    with pytest.raises(AdapterError, match=f"unexpected tensor '{key}'.*are wanted"):
        from_state_dict({key: nn.Parameter(torch.ones(2, 2))})


def test_pefts_own_keys_are_not_taken_for_ours() -> None:
    with pytest.raises(AdapterError, match=r"scale is not known.*updates_of_peft.*import_adapter"):
        from_state_dict(state_of())
