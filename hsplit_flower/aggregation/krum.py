"""Krum and multi-Krum: whose change is nearest to the others' (Blanchard et al. 2017, 1703.02757).

Both need distances between changes and nothing else of them, so they are exact on factors.
"""

from jaxtyping import Float
from torch import Tensor


def krum_scores(
    squared_distances: Float[Tensor, "clients clients"], num_malicious: int
) -> Float[Tensor, " clients"]:
    """``Σ_j ‖Δ_i − Δ_j‖²`` of each client over its ``n − f − 2`` nearest others, one at least.

    Parameters
    ----------
    squared_distances
        Between all pairs.
    num_malicious
        ``f``; the authors' guarantee needs ``n ≥ 2 f + 3``.
    """
    count = len(squared_distances)
    nearest = min(max(1, count - num_malicious - 2), count - 1)
    to_others = squared_distances.clone().fill_diagonal_(float("inf"))
    return to_others.sort(dim=1).values[:, :nearest].sum(dim=1)


def krum(
    squared_distances: Float[Tensor, "clients clients"], num_malicious: int, *, num_selected: int
) -> list[int]:
    """The places of those with the lowest scores, in order of place; of equal ones the first."""
    order = krum_scores(squared_distances, num_malicious).sort(stable=True).indices
    return sorted(order[: max(1, num_selected)].tolist())
