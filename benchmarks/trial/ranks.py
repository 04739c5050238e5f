"""What a client's bytes buy, by each of the rules that are compared."""

from collections.abc import Mapping

from benchmarks.trial.setting import Setting
from hsplit_flower.methods import RankRule
from hsplit_flower.planning import choose_ranks
from hsplit_flower.splitting import Architecture


def choose(
    architecture: Architecture, setting: Setting, budget: float, importance: Mapping[str, float]
) -> dict[str, int]:
    """A rank for every weight, within ``budget`` ranks of all weights together."""
    rank_bytes = {w.name: float(w.parameters_per_rank) for w in architecture.weights}
    if not setting.method.has_adapters:
        return {}
    if setting.method.ranks is RankRule.ONE_FOR_ALL:
        least = min(setting.budgets)
        rank = max(rank for rank in setting.planning.allowed_ranks if rank <= least)
        return dict.fromkeys(rank_bytes, rank)
    left = budget * sum(rank_bytes.values()) + 0.5
    if setting.method.ranks is RankRule.UNIFORM or not importance:
        return _uniform(rank_bytes, left)
    if setting.means:
        sizes = {w.name: w.in_features * w.out_features for w in architecture.weights}
        importance = {name: score / sizes[name] for name, score in importance.items()}
    floor = int(setting.floor)
    allowed = setting.planning.allowed_ranks
    chosen = choose_ranks(
        rank_bytes,
        importance,
        budget_bytes=left - floor * sum(rank_bytes.values()),
        allowed_ranks=range(0, allowed[-1] + 1 - floor) if floor else allowed,
        gain_base=setting.planning.gain_base,
    )
    return {name: rank + floor for name, rank in chosen.items()}


def _uniform(rank_bytes: Mapping[str, float], budget_bytes: float) -> dict[str, int]:
    """One rank for all weights, what is left over one rank more for some."""
    rank = int(budget_bytes // sum(rank_bytes.values()))
    ranks = dict.fromkeys(rank_bytes, rank)
    left = budget_bytes - rank * sum(rank_bytes.values())
    # So that all rules spend the same: one rank more for every other weight, as far as it goes.
    names = list(rank_bytes)
    for name in (*names[::2], *names[1::2]):
        if rank_bytes[name] <= left:
            ranks[name] += 1
            left -= rank_bytes[name]
    return ranks
