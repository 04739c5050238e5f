"""Factors of other ranks, read and written as PEFT would."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

from hsplit_flower.adapters import LowRank, compress
from hsplit_flower.adapters.peft_form import FRESH_LENGTH, PeftForm
from hsplit_flower.errors import AdapterError
from tests.reference.aggregation import dense, relative_error
from tests.reference.unsplit import base_model, peft_calls_old_names

# Older versions of PEFT look for the configuration of a model that was never saved.
pytestmark = pytest.mark.filterwarnings("ignore:Could not find a config file")

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 3}, "alpha_pattern": {"0.self_attn.v_proj": 5}},
}


def adapted(rank: int, *, is_trained: bool = True, **options: Any) -> Any:
    """A model with LoRA of this rank, its factors random or as LoRA starts."""
    config = LoraConfig(
        r=rank,
        lora_alpha=12,
        target_modules=["q_proj", "v_proj"],
        init_lora_weights=not is_trained,
        **options,
    )
    torch.manual_seed(rank)
    with peft_calls_old_names():
        return get_peft_model(base_model("llama"), config)


def form_of(model: Any) -> PeftForm:
    return PeftForm.of(get_peft_model_state_dict(model), model.peft_config["default"])


def random_updates(form: PeftForm, model: Any, rank: int) -> dict[str, LowRank]:
    generator = torch.Generator().manual_seed(rank)
    updates = {}
    for name in form.ranks:
        out_features, in_features = model.base_model.model.get_submodule(name).weight.shape
        b = torch.randn(out_features, rank, generator=generator)
        updates[name] = compress(
            LowRank(b=b, a=torch.randn(rank, in_features, generator=generator))
        )
    return updates


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_a_client_of_another_rank_has_is_read_as_peft_reads_it(options: Any) -> None:
    form, other = form_of(adapted(4, **options)), adapted(2, **options)
    updates = form.updates_of(get_peft_model_state_dict(other))
    assert updates.keys() == form.ranks.keys()
    for name, update in updates.items():
        layer = other.base_model.model.get_submodule(name)
        wanted = layer.get_delta_weight("default").detach().double()
        assert relative_error(update, wanted) < 1e-6


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_is_written_for_a_client_is_the_head_in_peft(options: Any) -> None:
    model, other = adapted(4, **options), adapted(2, **options)
    form = form_of(model)
    updates = random_updates(form, model, 5)
    state = form.state_of(updates, form.ranks_at(2), seed=0)
    assert not set_peft_model_state_dict(other, state).unexpected_keys
    for name, update in updates.items():
        rank = form.ranks_at(2)[name]
        layer = other.base_model.model.get_submodule(name)
        delta = layer.get_delta_weight("default").detach()
        assert relative_error(delta, dense(update.head(rank))) < 1e-6
        length = layer.lora_A["default"].weight.norm(dim=1)
        torch.testing.assert_close(length, torch.full_like(length, FRESH_LENGTH))


def test_directions_that_an_update_lacks_start_as_in_lora() -> None:
    model = adapted(4)
    form = form_of(model)
    updates = random_updates(form, model, 1)
    state, again, other = (form.state_of(updates, form.ranks, seed=seed) for seed in (0, 0, 1))
    torch.testing.assert_close(state, again, rtol=0, atol=0)
    for name, update in updates.items():
        b, a = (state[f"base_model.model.{name}.lora_{kind}.weight"] for kind in "BA")
        bound = update.in_features**-0.5
        assert not b[:, 1:].any() and b[:, 0].any()
        assert 0.2 * bound < a[1:].abs().mean() and a[1:].abs().max() <= bound
        assert not torch.equal(a[1:], other[f"base_model.model.{name}.lora_A.weight"][1:])


def test_types_and_the_order_of_keys_stay() -> None:
    model = adapted(4)
    given = {key: t.half() for key, t in get_peft_model_state_dict(model).items()}
    form = PeftForm.of(given, model.peft_config["default"])
    huge = {name: LowRank(b=1e9 * u.b, a=u.a) for name, u in random_updates(form, model, 2).items()}
    state = form.state_of(huge, form.ranks, seed=0)
    assert [*state] == [*given]
    assert all(
        tensor.dtype == torch.float16 and tensor.isfinite().all() for tensor in state.values()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: dict(list(state.items())[1:]), "1 of its keys are other ones"),
        (lambda state: {**state, "x.lora_A.weight": torch.ones(1, 1)}, "not in the initial arrays"),
        (lambda state: {key: tensor[0] for key, tensor in state.items()}, "a matrix is wanted"),
        (lambda state: {key: tensor[:2] for key, tensor in state.items()}, "its rank is 2"),
    ],
)
def test_other_tensors_are_refused_with_the_reason(change: Any, message: str) -> None:
    model = adapted(4)
    with pytest.raises(AdapterError, match=message):
        form_of(model).updates_of(change(get_peft_model_state_dict(model)))
