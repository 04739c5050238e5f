"""Many sessions' low-rank terms on one base that stays as it is."""

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hsplit_flower.adapters import Active, AdapterBank, LowRank
from hsplit_flower.errors import AdapterError
from hsplit_flower.splitting.linear import linear_at, matrix_of
from tests.tolerances import assert_same

NAMES = ("first", "second")


def _model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    model = nn.Sequential()
    model.add_module("first", nn.Linear(6, 8))
    model.add_module("act", nn.Tanh())
    model.add_module("second", Conv1D(5, 8))
    return model.to(dtype).requires_grad_(False)


def _update(out_features: int, in_features: int, rank: int) -> LowRank:
    return LowRank(b=torch.randn(out_features, rank), a=torch.randn(rank, in_features))


def _updates() -> dict[str, LowRank]:
    return {"first": _update(8, 6, 2), "second": _update(5, 8, 3)}


def _active(updates: dict[str, LowRank], scale: float = 1.0) -> Active:
    return Active(terms={name: [(u.b, u.a, scale)] for name, u in updates.items()})


def _dense(model: nn.Module, updates: dict[str, LowRank], x: Tensor) -> Tensor:
    """The model with the updates added to its weights in float64."""
    for name, layer in model.named_children():
        if name == "act":
            x = torch.tanh(x)
        else:
            matrix = matrix_of(linear_at(model, name)).double()
            if name in updates:
                matrix = matrix + updates[name].b.double() @ updates[name].a.double()
            x = x @ matrix.T + layer.bias.double()
    return x


def test_the_active_terms_are_added_and_no_others() -> None:
    model, x = _model(), torch.randn(3, 4, 6)
    bank = AdapterBank(model, NAMES)
    updates = _updates()
    plain = model(x)
    with bank.activate(_active(updates)):
        assert_same(model(x), _dense(model, updates, x.double()))
    assert torch.equal(model(x), plain)
    with bank.activate(_active({"first": updates["first"]}, scale=3.0)):
        assert_same(model(x), _dense(model, {"first": updates["first"].scale(3.0)}, x.double()))
    with bank.activate(Active(terms={})):
        assert torch.equal(model(x), plain)


def test_several_terms_of_one_weight_add_up() -> None:
    model, x = _model(), torch.randn(3, 6)
    bank = AdapterBank(model, NAMES)
    one, two = _update(8, 6, 2), _update(8, 6, 4)
    terms = {"first": [(one.b, one.a, 1.0), (two.b, two.a, -2.0)]}
    with bank.activate(Active(terms=terms)):
        assert_same(model(x), _dense(model, {"first": one + two.scale(-2.0)}, x.double()))


def test_an_error_inside_ends_the_activation() -> None:
    model, x = _model(), torch.randn(3, 6)
    bank, plain = AdapterBank(model, NAMES), model(x)
    with pytest.raises(ZeroDivisionError), bank.activate(_active(_updates())):
        raise ZeroDivisionError
    assert torch.equal(model(x), plain)


def test_gradients_reach_the_active_factors_and_only_those() -> None:
    model, x = _model(), torch.randn(3, 6)
    bank, updates = AdapterBank(model, NAMES), _updates()
    for update in updates.values():
        update.b.requires_grad_()
    with bank.activate(_active(updates)):
        model(x).sum().backward()
    assert all(update.b.grad is not None for update in updates.values())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_base_keeps_its_names_and_its_type() -> None:
    model = _model(torch.bfloat16)
    before = list(model.state_dict())
    bank = AdapterBank(model, NAMES)
    with bank.activate(_active(_updates())):
        assert model(torch.randn(3, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert list(model.state_dict()) == before


def test_merged_updates_equal_factored_ones() -> None:
    model, x = _model(), torch.randn(3, 6)
    bank, updates = AdapterBank(model, NAMES), _updates()
    wanted = _dense(model, updates, x.double())
    bank.merge(updates)
    assert_same(model(x), wanted)


def test_merging_again_starts_from_the_original() -> None:
    """A hundred rounds of merges, in all sizes, leave not a bit of themselves behind."""
    model = _model()
    bank = AdapterBank(model, NAMES)
    original = {name: matrix_of(linear_at(model, name)).clone() for name in NAMES}
    for size in range(100):
        bank.merge({name: update.scale(10.0 ** (size % 7)) for name, update in _updates().items()})
    last = _updates()
    bank.merge({"first": last["first"]})
    assert torch.equal(
        matrix_of(linear_at(model, "first")), original["first"] + last["first"].dense()
    )
    assert torch.equal(matrix_of(linear_at(model, "second")), original["second"])
    bank.merge({})
    assert all(torch.equal(matrix_of(linear_at(model, n)), original[n]) for n in NAMES)


def test_a_weight_that_is_no_linear_layer_is_refused() -> None:
    with pytest.raises(AdapterError, match="'act' is not a linear layer"):
        AdapterBank(_model(), ["act"])
