"""How many bytes the global update takes: as it arrives, frozen beside adapters, or merged."""

from collections.abc import Iterable, Mapping

from ..types import Start, Weight
from .model_costs import FLOAT32_BYTES, ModelCosts

NO_UPDATE: Mapping[str, int] = {}


def frozen_bytes(costs: ModelCosts, weight: Weight, update_rank: int) -> float:
    """Bytes of the frozen global update of one weight on a client, float32.

    ``4 · R · (in + out)``, unless its factors hold more numbers than the matrix and the matrix is
    float32 and not quantised: then it is added to the weight in memory (DESIGN 3.6).
    """
    if is_merged(costs, weight, update_rank):
        return 0.0
    return float(FLOAT32_BYTES * update_rank * weight.parameters_per_rank)


def arriving_bytes(costs: ModelCosts, cut: int, update_ranks: Mapping[str, int]) -> float:
    """Bytes of the global update below a cut as it arrives: ``4 · R · (in + out)`` each."""
    return factors_bytes((w for w in costs.weights if w.block < cut), update_ranks)


def frozen_change_bytes(
    costs: ModelCosts, weight: Weight, rank: int, update_rank: int, *, start: Start
) -> float:
    """What training this many ranks of a weight changes about its frozen part.

    Adapters that start from an update's leading directions take these out of it: where it is
    factored it is smaller by them, where it is in the weight they are held once more, as `-B⁰A⁰`.
    """
    if start is Start.RESTART:
        return 0.0
    continued = FLOAT32_BYTES * min(rank, update_rank) * weight.parameters_per_rank
    return float(continued if is_merged(costs, weight, update_rank) else -continued)


def frozen_bytes_per_rank(
    costs: ModelCosts, weight: Weight, update_rank: int, *, start: Start
) -> float:
    """What a trained rank adds to the frozen part at most, whatever the rank."""
    return max(0.0, frozen_change_bytes(costs, weight, 1, update_rank, start=start))


def is_merged(costs: ModelCosts, weight: Weight, update_rank: int) -> bool:
    """Whether the global update is added to the weight in memory, its factors being dearer."""
    is_dear = update_rank * weight.parameters_per_rank > weight.in_features * weight.out_features
    workload = costs.workload
    return is_dear and workload.dtype_bytes == FLOAT32_BYTES and not workload.quantised


def factors_bytes(weights: Iterable[Weight], update_ranks: Mapping[str, int]) -> float:
    """The global update of these weights as factors."""
    return float(
        sum(FLOAT32_BYTES * update_ranks.get(w.name, 0) * w.parameters_per_rank for w in weights)
    )
