"""How many bytes the split worker needs at its peak, for the sessions that are open on it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..settings.planning import PlanSettings
from ..types import Labels, MemoryParts, Span, Start, Weight
from .adapter_activations import adapted_weights, kept_for_adapters
from .client_peak import inside_bytes
from .global_update import NO_UPDATE, factors_bytes, frozen_bytes_per_rank
from .model_costs import ModelCosts, adapter_bytes


def worker_memory(
    costs: ModelCosts,
    *,
    sessions: Sequence[tuple[int, Mapping[str, int]]],
    settings: PlanSettings,
    update_ranks: Mapping[str, int] = NO_UPDATE,
) -> MemoryParts:
    """Peak memory of the split worker, for the cut and ranks of every open session.

    The base is there once, from the smallest cut that is allowed, whichever are chosen, with the
    global update's factors for all sessions; adapters are there per session. One step runs at a
    time. Where the labels stay on the clients, every session may
    have a step that waits for its gradient.
    """
    parts = worker_memory_without_sessions(costs, settings=settings, update_ranks=update_ranks)
    adapters = 0.0
    steps = []
    for cut, ranks in sessions:
        adapted = adapted_weights(costs, Span(start=cut, stop=costs.num_blocks), ranks)
        adapters += sum(
            ranks[weight.name]
            * session_rank_bytes(
                costs, weight, update_ranks.get(weight.name, 0), start=settings.start
            )
            for weight in adapted
        )
        inputs, products = kept_for_adapters(
            costs, adapted, ranks, checkpointing=settings.worker_checkpointing
        )
        steps.append(worker_blocks_bytes(costs, cut, settings) + inputs.copies_bytes + products)
    kept = sum(steps) if settings.labels is Labels.CLIENT else max(steps, default=0.0)
    return replace(parts, adapters_bytes=adapters, activations_bytes=parts.activations_bytes + kept)


def worker_memory_without_sessions(
    costs: ModelCosts,
    *,
    settings: PlanSettings,
    update_ranks: Mapping[str, int] = NO_UPDATE,
) -> MemoryParts:
    """What the worker needs for its half alone, and while any one step runs on it."""
    weights = [weight for weight in costs.weights if weight.block >= settings.min_cut]
    held = costs.passes[settings.min_cut :]
    working = max((max(one.working_bytes, one.scoring_bytes) for one in held), default=0.0)
    if settings.labels is Labels.SERVER:
        working = max(working, costs.head.saved_bytes + costs.head.working_bytes)
    return MemoryParts(
        weights_bytes=worker_half_bytes(costs, settings),
        frozen_factors_bytes=factors_bytes(weights, update_ranks),
        activations_bytes=costs.shared_bytes + working,
        smashed_data_bytes=2 * (costs.hidden_bytes + costs.wire_hidden_bytes),
    )


def worker_half_bytes(costs: ModelCosts, settings: PlanSettings) -> float:
    """Bytes of the half that a worker loads, and `WorkerDescription.memory_bytes` is beside."""
    return costs.exit_bytes + sum(costs.block_bytes[settings.min_cut :])


def worker_blocks_bytes(costs: ModelCosts, cut: int, settings: PlanSettings) -> float:
    """What a step keeps of the blocks above a cut, adapters apart."""
    is_recomputed = settings.worker_checkpointing
    above = costs.passes[cut:]
    block_inputs = len(above) * costs.hidden_bytes if is_recomputed else 0.0
    kept = [one.saved_bytes + one.layer_inputs_bytes for one in above]
    return block_inputs + inside_bytes(kept, checkpointing=is_recomputed)


def session_rank_bytes(
    costs: ModelCosts, weight: Weight, update_rank: int, *, start: Start
) -> float:
    """What one trained rank of a weight takes in a session on the worker."""
    return adapter_bytes(weight) + frozen_bytes_per_rank(costs, weight, update_rank, start=start)
