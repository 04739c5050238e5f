"""The server's momentum: each round also goes a share of the way that the round before went.

    V_t = β V_{t−1} + (NAA's change of round t),      ΔW_g ← ΔW_g + V_t

FedAvgM (Hsu et al., arXiv 1909.06335) on factored updates: sums are concatenations, so it is as
exact as the aggregation. The mean of clients whose data differ moves less than each of them does;
momentum makes up for that without longer rounds on anybody's device.
"""

from collections.abc import Mapping

from ..adapters.low_rank import LowRank, compress, concatenate
from ..errors import AdapterError


class Momentum:
    """``β``, and by weight name the ``V`` of the round before.

    Parameters
    ----------
    beta
        In [0, 1); 0 carries nothing.
    """

    def __init__(self, beta: float) -> None:
        if not 0.0 <= beta < 1.0:
            raise AdapterError(f"server momentum must be in [0, 1), got {beta}")
        self.beta = beta
        self._velocities: dict[str, LowRank] = {}

    def carried(self, remainders: Mapping[str, LowRank]) -> dict[str, LowRank]:
        """What an aggregation must add besides the clients' changes: remainders, and ``β V``."""
        added = dict(remainders)
        for name, velocity in self._velocities.items():
            if not velocity.rank:
                continue
            terms = [velocity.scale(self.beta), *([added[name]] if name in added else [])]
            added[name] = concatenate(terms)
        return added

    def learn(
        self,
        before: Mapping[str, LowRank],
        after: Mapping[str, LowRank],
        *,
        remainders_before: Mapping[str, LowRank],
        remainders_after: Mapping[str, LowRank],
    ) -> None:
        """Note how far the round went, with what a rank cap holds back counted in."""
        if not self.beta:
            return
        for name, update in after.items():
            terms = [update, before[name].scale(-1.0)]
            if name in remainders_after:
                terms.append(remainders_after[name])
            if name in remainders_before:
                terms.append(remainders_before[name].scale(-1.0))
            self._velocities[name] = compress(concatenate(terms)).update

    def forget(self) -> None:
        """Start anew, as after another adapter was taken over."""
        self._velocities.clear()
