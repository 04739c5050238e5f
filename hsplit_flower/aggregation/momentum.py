"""The server's momentum: each round also goes a share of the way that the round before went.

    V_t = β V_{t−1} + (NAA's change of round t),      ΔW_g ← ΔW_g + V_t

FedAvgM (Hsu et al., arXiv 1909.06335) on exact sums, so it is as exact as the aggregation. The mean
of clients whose data differ moves less than each of them does; momentum makes up for that without
longer rounds on anybody's device.
"""

from collections.abc import Sequence

from ..adapters.low_rank import LowRank
from ..adapters.update_sum import UpdateSum


def next_velocity(velocity: UpdateSum, change: Sequence[LowRank], *, beta: float) -> UpdateSum:
    """``V_t`` of one weight.

    Parameters
    ----------
    velocity
        ``V_{t−1}``.
    change
        What the clients change, as terms to be added up.
    beta
        In [0, 1).
    """
    return velocity.scale(beta).plus(*change)
