"""The optimizer that is the same on both sides of a cut, and its steps."""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from ..settings import Recipe, SessionSpec
from .trainable import Trainable


def adapter_optimizer(
    trainables: Mapping[str, Trainable], recipe: Recipe
) -> torch.optim.Optimizer | None:
    """AdamW over the factors; None where nothing is trained."""
    factors = [factor for one in trainables.values() for factor in (one.a, one.b)]
    return adamw(factors, recipe) if factors else None


def adamw(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW as a recipe has it.

    In one fused operation for all parameters: there are hundreds, and small ones.
    """
    return torch.optim.AdamW(
        parameters,
        lr=recipe.learning_rate,
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        eps=recipe.adam_epsilon,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def take_step(optimizer: torch.optim.Optimizer, spec: SessionSpec, number: int) -> None:
    """Step number ``number`` of the round, from 1, at its own rate; no gradient is left after it.

    The rate follows from the session alone, so whoever goes on with a run, or begins a round anew,
    has the same.
    """
    if not spec.is_constant:
        for group in optimizer.param_groups:
            group["lr"] = spec.rate_of_step(number)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
