"""Who can take part in which method with the paper's memory, and what it then trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from benchmarks.study.arms import CENTRALISED
from benchmarks.study.fleet import GIGABYTE, Link, server, xavier
from hsplit_flower.costs import ModelCosts, client_memory
from hsplit_flower.costs.client_peak import Moment, client_moments
from hsplit_flower.methods import Method, RankRule
from hsplit_flower.planning import plan
from hsplit_flower.planning.worker_share import session_need_bytes
from hsplit_flower.settings import Planning, Training
from hsplit_flower.settings.planning import PlanSettings
from hsplit_flower.types import Labels, Plan

ADAM_BYTES = 8  # two float32 moments
HIGHEST_RANK = Planning().max_rank
LINK = Link()


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a client that takes part trains; ``rank`` is the mean over all weights."""

    rank: float
    memory_bytes: float
    cut: int | None = None


def parts(costs: ModelCosts, method: Method, memory_gb: Sequence[float]) -> dict[int, Part]:
    """Of each client that can take part, by its number; the others are missing."""
    if method == CENTRALISED:
        return {}
    if method.is_split:
        return _split(costs, method, memory_gb)
    return _whole(costs, method, memory_gb)


def whole_memory(costs: ModelCosts, method: Method, rank: int = HIGHEST_RANK) -> float:
    """Peak bytes of a client that holds the whole model.

    Importance is not scored. Full tuning has a gradient of the weights' own type and two float32
    moments for every parameter, and keeps every layer's input.
    """
    settings = PlanSettings(labels=Labels.CLIENT)
    ranks = {weight.name: rank if method.has_adapters else 0 for weight in costs.weights}
    moments = client_moments(costs, cut=costs.num_blocks, ranks=ranks, settings=settings)
    most = max(
        parts.total_bytes - parts.smashed_data_bytes
        for moment, parts in moments.items()
        if moment is not Moment.SCORING
    )
    if method.has_adapters:
        return most
    more_per_parameter = costs.workload.dtype_bytes + ADAM_BYTES
    inputs = sum(one.layer_inputs_bytes for one in costs.passes)
    return most + more_per_parameter * num_parameters(costs) + inputs


def split_memory(costs: ModelCosts, *, cut: int, rank: int) -> float:
    """Peak bytes of a client that holds ``cut`` blocks."""
    ranks = {weight.name: rank for weight in costs.weights}
    return client_memory(costs, cut=cut, ranks=ranks, settings=PlanSettings()).total_bytes


def num_parameters(costs: ModelCosts) -> float:
    """Of the whole model."""
    weights = costs.entry_bytes + costs.exit_bytes - costs.tied_bytes + sum(costs.block_bytes)
    return weights / costs.workload.dtype_bytes


def numbers_per_rank(costs: ModelCosts, blocks: int | None = None) -> int:
    """Numbers of one rank on all weights, or on those of the first blocks."""
    last = costs.num_blocks if blocks is None else blocks
    return sum(weight.parameters_per_rank for weight in costs.weights if weight.block < last)


@cache
def planned(
    costs: ModelCosts, method: Method, memory_gb: tuple[float, ...], link: Link = LINK
) -> Plan:
    """The planner's cuts and ranks, with the library's defaults."""
    settings = method.plan_settings(Planning(), Training())
    need = session_need_bytes(costs, rank=Planning().worker_session_rank, settings=settings)
    profiles = {i: xavier(gigabytes, link) for i, gigabytes in enumerate(memory_gb)}
    return plan(costs, profiles, server(), settings=settings.replace(worker_session_bytes=need))


def mean_rank(costs: ModelCosts, ranks: Mapping[str, int]) -> float:
    """The rank that would have as many numbers on all weights."""
    numbers = sum(ranks.get(w.name, 0) * w.parameters_per_rank for w in costs.weights)
    return numbers / numbers_per_rank(costs)


def _split(costs: ModelCosts, method: Method, memory_gb: Sequence[float]) -> dict[int, Part]:
    clients = planned(costs, method, tuple(memory_gb)).clients
    return {
        client: Part(
            rank=mean_rank(costs, part.ranks), memory_bytes=part.memory.total_bytes, cut=part.cut
        )
        for client, part in clients.items()
    }


def _whole(costs: ModelCosts, method: Method, memory_gb: Sequence[float]) -> dict[int, Part]:
    # What is trained has no rank where no adapters are.
    allowed = range(1, HIGHEST_RANK + 1) if method.has_adapters else [0]
    needed = {rank: whole_memory(costs, method, rank) for rank in allowed}
    fitting = {
        client: max((r for r in allowed if needed[r] <= gigabytes * GIGABYTE), default=None)
        for client, gigabytes in enumerate(memory_gb)
    }
    ranks = {client: rank for client, rank in fitting.items() if rank is not None}
    if method.ranks is RankRule.ONE_FOR_ALL and ranks:
        ranks = dict.fromkeys(ranks, min(ranks.values()))
    return {
        client: Part(rank=float(rank), memory_bytes=needed[rank]) for client, rank in ranks.items()
    }
