"""The factors of one weight while they are being trained, and their optimizer."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ..settings import Recipe
from ..types import Scaling
from .low_rank import LowRank
from .start import fold


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """``b: [out_features, rank]`` and ``a: [rank, in_features]``; the scale is not folded in.

    The layer computes ``W x + scale * b (a x)``.
    """

    b: nn.Parameter
    a: nn.Parameter

    @property
    def rank(self) -> int:
        return len(self.a)

    def folded(self, scale: float) -> LowRank:
        """The update that these factors stand for now: a copy on the host, scale folded in."""
        return fold(self.b.detach().cpu().clone(), self.a.detach().cpu().clone(), scale)


def collect(trainables: Mapping[str, Trainable], *, scaling: Scaling) -> dict[str, LowRank]:
    """The trained updates with their scales folded in, cut loose from the graph."""
    return {name: t.folded(scaling.of(t.rank)) for name, t in trainables.items()}


def adapter_optimizer(
    trainables: Mapping[str, Trainable], recipe: Recipe
) -> torch.optim.Optimizer | None:
    """AdamW over the factors, the same on both sides of a cut; None where nothing is trained.

    In one fused operation for all of them: there are hundreds, and small ones.
    """
    parameters = [
        factor for trainable in trainables.values() for factor in (trainable.a, trainable.b)
    ]
    if not parameters:
        return None
    return torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
