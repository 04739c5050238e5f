"""The server's momentum: each round also goes a share of the way that the round before went.

    V_t = β V_{t−1} + (NAA's change of round t),      ΔW_g ← ΔW_g + V_t

FedAvgM (Hsu et al., arXiv 1909.06335) on factored updates: sums are concatenations, so it is as
exact as the aggregation. The mean of clients whose data differ moves less than each of them does;
momentum makes up for that without longer rounds on anybody's device.
"""

from collections.abc import Mapping

from ..adapters.low_rank import LowRank, compress, concatenate


def carried(
    remainders: Mapping[str, LowRank], velocities: Mapping[str, LowRank], *, beta: float
) -> dict[str, LowRank]:
    """What an aggregation must add besides the clients' changes: remainders, and ``β V``.

    Parameters
    ----------
    remainders, velocities
        By weight name, of the round before.
    beta
        In [0, 1); 0 carries nothing.
    """
    added = dict(remainders)
    for name, velocity in velocities.items():
        if not velocity.rank or not beta:
            continue
        terms = [velocity.scale(beta), *([added[name]] if name in added else [])]
        added[name] = concatenate(terms)
    return added


def next_velocities(
    before: Mapping[str, LowRank],
    after: Mapping[str, LowRank],
    *,
    remainders_before: Mapping[str, LowRank],
    remainders_after: Mapping[str, LowRank],
) -> dict[str, LowRank]:
    """How far a round went, with what a rank cap holds back counted in."""
    velocities = {}
    for name, update in after.items():
        terms = [update, before[name].scale(-1.0)]
        if name in remainders_after:
            terms.append(remainders_after[name])
        if name in remainders_before:
            terms.append(remainders_before[name].scale(-1.0))
        velocities[name] = compress(concatenate(terms)).update
    return velocities
