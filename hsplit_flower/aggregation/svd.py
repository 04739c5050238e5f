"""The mean of the updates as a dense matrix, and its SVD: a method we compare with.

It is as exact as concatenation up to the truncation, but forms ``[out_features, in_features]`` and
decomposes all of it, whatever the ranks.
"""

from collections.abc import Sequence

import torch

from ..adapters.low_rank import LowRank
from ..errors import AdapterError
from .contribution import shares


def dense_svd(
    updates: Sequence[LowRank], num_examples: Sequence[int], *, rank: int | None = None
) -> LowRank:
    """``U √S · √S Vᵀ`` of the dense ``Σ p_i B_i A_i``, its leading ``rank`` directions or all.

    FlexLoRA, "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client
    Resources" (arXiv 2402.11505); a client of rank ``r`` gets ``head(r)``.
    """
    if not updates:
        raise AdapterError("got no updates to average; give at least one")
    first = updates[0]
    total = first.b.new_zeros(first.out_features, first.in_features)
    for p, update in zip(shares(num_examples), updates, strict=True):
        total.addmm_(update.b, update.a, alpha=p)
    u, sigma, vh = torch.linalg.svd(total, full_matrices=False)
    root = sigma.sqrt()
    return LowRank(b=u * root, a=root[:, None] * vh).head(len(sigma) if rank is None else rank)
