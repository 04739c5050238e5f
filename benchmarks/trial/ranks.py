"""What a client's bytes buy, by each of the rules that are compared."""

from collections.abc import Mapping

from benchmarks.trial.setting import Allocation, Setting
from hsplit_flower.planning import choose_ranks
from hsplit_flower.splitting import Architecture


def choose(
    architecture: Architecture, setting: Setting, budget: float, importance: Mapping[str, float]
) -> dict[str, int]:
    """A rank for every weight, within ``budget`` ranks of all weights together."""
    rank_bytes = {w.name: float(w.parameters_per_rank) for w in architecture.weights}
    left = budget * sum(rank_bytes.values()) + 0.5
    allowed = range(0, setting.max_rank + 1, setting.rank_unit)
    if setting.allocation is Allocation.UNIFORM or not importance:
        rank = int(left // sum(rank_bytes.values()))
        ranks = dict.fromkeys(rank_bytes, rank)
        left -= rank * sum(rank_bytes.values())
        # So that all rules spend the same: one rank more for every other weight, as far as it goes.
        names = list(rank_bytes)
        for name in (*names[::2], *names[1::2]):
            if rank_bytes[name] <= left:
                ranks[name] += 1
                left -= rank_bytes[name]
        return ranks
    if setting.means:
        sizes = {w.name: w.in_features * w.out_features for w in architecture.weights}
        importance = {name: score / sizes[name] for name, score in importance.items()}
    floor = 1 if setting.allocation is Allocation.FLOOR else 0
    chosen = choose_ranks(
        rank_bytes,
        importance,
        budget_bytes=left - floor * sum(rank_bytes.values()),
        allowed_ranks=range(0, setting.max_rank + 1 - floor) if floor else tuple(allowed),
        gain_base=setting.gain_base,
    )
    return {name: rank + floor for name, rank in chosen.items()}
