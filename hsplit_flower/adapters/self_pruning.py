"""A client that finds its own rank: HetLoRA's penalty on the last directions, and when they go.

Cho et al., "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models" (arXiv
2401.06432). With ``t = ⌊γ r⌋`` the tail of a pair of rank ``r`` is what lies behind its first ``t``
directions. A client adds to its loss, over its adapted weights,

    λ Σ ‖B[:, t:]‖_F ‖A[t:, :]‖_F

and lets the tails go if the same sum without ``λ`` is smaller after its steps than before them. The
scale is folded into ``B``, as ranks differ and scales with them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from ..types import Scaling
from .low_rank import LowRank
from .trainable import Trainable


@dataclass(frozen=True, kw_only=True)
class SelfPruning:
    """How a client finds its rank.

    Attributes
    ----------
    decay
        ``γ``: what share of its directions a client keeps that prunes.
    penalty
        ``λ``. The sources that we could read do not give one; this is far below a language model's
        loss, and above what its gradients alone do to a direction that brings nothing.
    least_rank
        ``r_min``: no weight goes below it.
    """

    decay: float = 0.99
    penalty: float = 1e-3
    least_rank: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.decay < 1.0:
            raise ConfigError(f"decay must be above 0 and below 1, got {self.decay}")
        if not 0.0 <= self.penalty < math.inf:
            raise ConfigError(f"penalty must be a number of zero or more, got {self.penalty}")
        if self.least_rank < 1:
            raise ConfigError(f"least_rank must be 1 or more, got {self.least_rank}")

    def tail_start(self, rank: int) -> int:
        """``t = ⌊γ r⌋``: how many directions lie before the tail."""
        return math.floor(self.decay * rank)

    def pruned(self, rank: int) -> int:
        """``max(r_min, ⌊γ r⌋)``; a rank that is no higher than the least one stays."""
        return min(rank, max(self.least_rank, self.tail_start(rank)))

    def penalty_of(self, trainables: Mapping[str, Trainable], scaling: Scaling) -> Tensor:
        """What the loss has added to it, with its graph.

        Parameters
        ----------
        trainables
            What the client trains; one weight or more.
        scaling
            What the layers multiply their products by.
        """
        terms = []
        for trainable in trainables.values():
            start = self.tail_start(trainable.rank)
            b, a = trainable.b[:, start:], trainable.a[start:]
            norms = torch.linalg.vector_norm(b) * torch.linalg.vector_norm(a)
            terms.append(scaling.of(trainable.rank) * norms)
        return self.penalty * torch.stack(terms).sum()

    def tail_norm(self, update: LowRank, rank: int) -> float:
        """``‖B[:, t:]‖_F ‖A[t:, :]‖_F`` of folded factors that are trained at this rank."""
        tail = update.tail(self.tail_start(rank))
        b, a = (torch.linalg.vector_norm(one, dtype=torch.float64) for one in (tail.b, tail.a))
        return float(b * a)
