"""The optimizer that is the same on both sides of a cut, and its steps."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ..errors import NonFiniteError
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


def take_step(
    optimizer: torch.optim.Optimizer, spec: SessionSpec, number: int, *, squared_norm: float = 0.0
) -> None:
    """A step at its own rate, with gradients that are clipped if asked; none is left after it.

    The rate follows from the session alone, so whoever goes on with a run, or begins a round anew,
    has the same.

    Parameters
    ----------
    optimizer, spec
        Of one side of the cut.
    number
        Of the step in the round, from 1.
    squared_norm
        Of the gradients on both sides of the cut. By it each side shortens its own, as
        ``torch.nn.utils.clip_grad_norm_`` would shorten them all.
    """
    if spec.max_gradient_norm:
        total = torch.tensor(math.sqrt(squared_norm))
        clip_grads_with_norm_(_parameters_of(optimizer), spec.max_gradient_norm, total)
    if not spec.is_constant:
        for group in optimizer.param_groups:
            group["lr"] = spec.rate_of_step(number)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def squared_norm_of(optimizer: torch.optim.Optimizer | None) -> float:
    """``‖g‖²`` of all gradients that its next step would take; 0 where nothing is trained.

    Raises
    ------
    NonFiniteError
        If it is too large for a number.
    """
    if optimizer is None:
        return 0.0
    gradients = [one.grad for one in _parameters_of(optimizer) if one.grad is not None]
    squared = float(get_total_norm(gradients, 2.0)) ** 2
    if not math.isfinite(squared):
        raise NonFiniteError("the norm of a gradient is not finite: lower the learning rate")
    return squared


def _parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
