"""The factors of one weight while they are being trained."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

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
