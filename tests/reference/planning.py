"""The planner's problems solved by trying everything."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product

import torch
from torch import Tensor

from hsplit_flower.planning import ClientOptions, WorkerOptions


def best_makespan(
    clients: Mapping[int, ClientOptions], worker: WorkerOptions, min_cut: int
) -> float | None:
    """The smallest ``max( max_i T_i(s_i), Σ_i S(s_i) )`` over all cuts; None if none fits."""
    best = None
    choices = [range(min_cut, options.deepest + 1) for options in clients.values()]
    for cuts in product(*choices):
        needed = worker.base_bytes[min(cuts)] + sum(worker.session_bytes[cut] for cut in cuts)
        if needed > worker.budget_bytes:
            continue
        slowest = max(
            options.seconds[cut] for options, cut in zip(clients.values(), cuts, strict=True)
        )
        value = max(slowest, sum(worker.seconds[cut] for cut in cuts))
        best = value if best is None else min(best, value)
    return best


def best_gain(
    rank_bytes: Sequence[float],
    importance: Sequence[float],
    *,
    budget_bytes: float,
    allowed_ranks: Sequence[int],
    gain_base: float,
) -> float:
    """The largest ``Σ_k Ī_k (1 − base^r_k)`` within the budget, over all assignments."""
    best = 0.0
    for ranks in product(allowed_ranks, repeat=len(rank_bytes)):
        if sum(r * cost for r, cost in zip(ranks, rank_bytes, strict=True)) <= budget_bytes:
            gain = sum(i * (1 - gain_base**r) for i, r in zip(importance, ranks, strict=True))
            best = max(best, gain)
    return best


@contextmanager
def saved_storages(parameters: Sequence[Tensor]) -> Iterator[dict[int, int]]:
    """Bytes of what autograd keeps inside, by address, without the parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found
