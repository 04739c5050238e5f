"""The factors that are trained, and the optimizer that is the same on both sides of a cut."""

import torch
from torch import nn

from hsplit_flower.adapters import Trainable, adapter_optimizer
from hsplit_flower.settings import Recipe
from tests.reference.aggregation import dense


def _trainable() -> Trainable:
    return Trainable(b=nn.Parameter(torch.randn(5, 2)), a=nn.Parameter(torch.randn(2, 3)))


def test_folding_takes_the_scale_in() -> None:
    trainable = _trainable()
    wanted = 3.0 * trainable.b.detach().double() @ trainable.a.detach().double()
    assert torch.allclose(dense(trainable.folded(3.0)), wanted, atol=1e-6)


def test_folding_is_a_copy() -> None:
    trainable = _trainable()
    folded = trainable.folded(1.0)
    before = dense(folded)
    with torch.no_grad():
        trainable.a.zero_()
        trainable.b.zero_()
    assert torch.equal(dense(folded), before)


def test_the_optimizer_holds_every_factor_once() -> None:
    trainables = {name: _trainable() for name in "xyz"}
    optimizer = adapter_optimizer(trainables, Recipe(learning_rate=0.5, weight_decay=0.25))
    (group,) = optimizer.param_groups
    held = [id(parameter) for parameter in group["params"]]
    assert sorted(held) == sorted(id(f) for t in trainables.values() for f in (t.a, t.b))
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)


def test_a_step_does_not_depend_on_what_else_the_optimizer_holds() -> None:
    """Both sides of a cut have their own optimizer, and together they are the whole model's."""
    torch.manual_seed(1)
    alone, among = _trainable(), _trainable()
    with torch.no_grad():
        among.a.copy_(alone.a)
        among.b.copy_(alone.b)
    for trainables in ({"x": alone}, {"w": _trainable(), "x": among}):
        optimizer = adapter_optimizer(trainables, Recipe(learning_rate=0.1, weight_decay=0.1))
        for step in range(3):
            for trainable in trainables.values():
                trainable.a.grad = torch.full_like(trainable.a, 0.3 * step + 0.1)
                trainable.b.grad = torch.full_like(trainable.b, 0.7)
            optimizer.step()
    assert torch.equal(alone.a, among.a)
    assert torch.equal(alone.b, among.b)
