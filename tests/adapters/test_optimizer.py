"""The optimizer that is the same on both sides of a cut."""

import torch
from torch import nn

from hsplit_flower.adapters import Trainable, adapter_optimizer, take_step
from hsplit_flower.settings import Recipe, Schedule, SessionSpec


def _trainable() -> Trainable:
    return Trainable(b=nn.Parameter(torch.randn(5, 2)), a=nn.Parameter(torch.randn(2, 3)))


def test_the_optimizer_holds_every_factor_once() -> None:
    trainables = {name: _trainable() for name in "xyz"}
    recipe = Recipe(
        learning_rate=0.5, weight_decay=0.25, adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6
    )
    optimizer = adapter_optimizer(trainables, recipe)
    (group,) = optimizer.param_groups
    held = [id(parameter) for parameter in group["params"]]
    assert sorted(held) == sorted(id(f) for t in trainables.values() for f in (t.a, t.b))
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert (group["betas"], group["eps"]) == ((0.8, 0.95), 1e-6)


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


def test_a_step_of_a_round_has_the_same_rate_whoever_takes_it() -> None:
    """Who begins at the third step of the second round is where others have come to."""
    spec = SessionSpec(
        client=0,
        cut=1,
        learning_rate=0.5,
        schedule=Schedule.LINEAR,
        server_round=2,
        num_rounds=4,
        num_steps=5,
    )
    for before in ((), (1, 2)):
        optimizer = adapter_optimizer({"x": _trainable()}, spec)
        for number in (*before, 3):
            take_step(optimizer, spec, number)
        assert optimizer.param_groups[0]["lr"] == 0.5 * (1 - 7 / 20)
