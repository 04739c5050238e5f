"""Averages of LoRA factors, which are not averages of the updates: the methods we compare with.

``mean(B) mean(A)`` differs from ``mean(B A)`` by the cross terms ``p_i p_j B_i A_j``, unless all
clients agree in one of the factors.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..adapters.low_rank import LowRank, concatenate
from ..errors import AdapterError
from .contribution import shares


def average_factors(updates: Sequence[LowRank], num_examples: Sequence[int]) -> LowRank:
    """``(Σ p_i B_i) (Σ p_i A_i)``: plain averaging of both factors, all of one rank.

    FedIT, "Towards Building the Federated GPT" (arXiv 2305.05644).
    """
    ranks = sorted({update.rank for update in updates})
    if len(ranks) > 1:
        raise AdapterError(
            f"factors of ranks {ranks} cannot be averaged; use one rank, or pad_and_average"
        )
    return pad_and_average(updates, num_examples)


def pad_and_average(updates: Sequence[LowRank], num_examples: Sequence[int]) -> LowRank:
    """The average of both factors after padding them with zeros to the largest rank.

    The padding also dilutes what only the larger ranks learned.
    """
    return _padded_mean(updates, shares(num_examples))


def sparsity_weighted(updates: Sequence[LowRank]) -> LowRank:
    """The same with ``S_i / Σ S`` in the place of ``p_i``, where ``S_i = ‖B_i A_i‖_F``.

    HetLoRA, "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models" (arXiv
    2401.06432). Where no client has learnt anything, all count the same.
    """
    norms = [update.squared_norm() ** 0.5 for update in updates]
    total = sum(norms)
    if not total:
        return pad_and_average(updates, [1] * len(updates))
    return _padded_mean(updates, [norm / total for norm in norms])


def stack(updates: Sequence[LowRank], num_examples: Sequence[int]) -> LowRank:
    """``[p_1 B_1, p_2 B_2, …] · [A_1; A_2; …]``, the exact mean, at the sum of the ranks.

    FLoRA, "Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations"
    (arXiv 2409.05976).
    """
    weights = shares(num_examples)
    return concatenate([update.scale(p) for p, update in zip(weights, updates, strict=True)])


def _padded_mean(updates: Sequence[LowRank], weights: Sequence[float]) -> LowRank:
    """``(Σ w_i pad(B_i)) (Σ w_i pad(A_i))``."""
    if not updates:
        raise AdapterError("got no updates to average; give at least one")
    rank = max(update.rank for update in updates)
    pairs = list(zip(weights, updates, strict=True))
    return LowRank(
        b=_mean([(w, _padded(update.b, rank)) for w, update in pairs]),
        a=_mean([(w, _padded(update.a.T, rank).T) for w, update in pairs]),
    )


def _padded(
    columns: Float[Tensor, "features rank"], rank: int
) -> Float[Tensor, "features padded_rank"]:
    return torch.nn.functional.pad(columns, (0, rank - columns.shape[1]))


def _mean(terms: Sequence[tuple[float, Tensor]]) -> Tensor:
    # In float64, so that the mean of equal factors is that factor.
    return torch.stack([p * factor.double() for p, factor in terms]).sum(dim=0).float()
