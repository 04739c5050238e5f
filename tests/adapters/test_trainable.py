"""The factors that are trained."""

import torch
from torch import nn

from hsplit_flower.adapters import Trainable
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
