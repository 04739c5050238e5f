"""How many bytes a party needs at its peak, for a given cut and given ranks.

A client's peak is at one of four moments of a round. When it is set up, the whole global update is
there, also what then goes into the weights. Where a backward pass begins, everything kept
is still there and the first gradients are made. The first step also scores importance, before the
optimizer has made its moments. When a step ends, the activations are gone and all gradients are
there. What crosses the cut is there twice, as a tensor and as a message.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum

from ..settings.planning import PlanSettings
from ..types import Labels, MemoryParts, Span, Start, Weight
from .model_costs import FLOAT32_BYTES, AdapterInputs, ModelCosts, adapter_bytes

NO_UPDATE: Mapping[str, int] = {}


class Moment(str, Enum):
    """When a client may need the most."""

    SETTING_UP = "setting up"
    TRAINING = "training"
    SCORING = "scoring"
    UPDATING = "updating"


def client_memory(
    costs: ModelCosts,
    *,
    cut: int,
    ranks: Mapping[str, int],
    settings: PlanSettings,
    update_ranks: Mapping[str, int] = NO_UPDATE,
    checkpointing: bool = False,
) -> MemoryParts:
    """Peak memory of a client that holds blocks ``[0, cut)``: what there is at that moment.

    Parameters
    ----------
    costs
        Of the model at the workload.
    cut
        Number of blocks on the client.
    ranks
        Rank by weight name; weights above the cut are ignored.
    settings
        Where the labels are, and what a round starts from.
    update_ranks
        Rank of the global update by weight name; a weight that is missing has none yet.
    checkpointing
        Whether of each block only the input is kept, and one block's inside at a time.
    """
    moments = client_moments(
        costs,
        cut=cut,
        ranks=ranks,
        settings=settings,
        update_ranks=update_ranks,
        checkpointing=checkpointing,
    )
    return max(moments.values(), key=lambda parts: parts.total_bytes)


def client_moments(
    costs: ModelCosts,
    *,
    cut: int,
    ranks: Mapping[str, int],
    settings: PlanSettings,
    update_ranks: Mapping[str, int] = NO_UPDATE,
    checkpointing: bool = False,
) -> dict[Moment, MemoryParts]:
    """What a client needs at each moment that may be its peak; parameters as in `client_memory`."""
    bare = client_memory_without_ranks(
        costs, cut=cut, settings=settings, update_ranks=update_ranks, checkpointing=checkpointing
    )
    adapted = _adapted(costs, Span(start=0, stop=cut), ranks)
    inputs, products = _kept_for_adapters(costs, adapted, ranks, checkpointing=checkpointing)
    inside = num_inside(cut, checkpointing=checkpointing)
    numbers = [0] * max(1, cut)
    frozen = bare.frozen_factors_bytes
    for weight in adapted:
        rank, update_rank = ranks[weight.name], update_ranks.get(weight.name, 0)
        numbers[weight.block] += rank * weight.parameters_per_rank
        frozen += frozen_change_bytes(costs, weight, rank, update_rank, start=settings.start)
    factors, gradients = FLOAT32_BYTES * sum(numbers), FLOAT32_BYTES * max(numbers)
    # What comes and goes with each block that is run again.
    alone = costs.block.saved_bytes + inputs.total_bytes + products if checkpointing else 0.0
    training = replace(
        bare,
        # Parameters and two moments; of the gradients, those of the block that is gone through.
        adapters_bytes=float(3 * factors + gradients),
        frozen_factors_bytes=frozen,
        activations_bytes=(bare.activations_bytes + inputs.total_bytes + products),
        head_bytes=_client_head_bytes(costs, settings.labels, alone),
        probe_bytes=0.0,
    )
    return {
        Moment.SETTING_UP: MemoryParts(
            weights_bytes=bare.weights_bytes,
            frozen_factors_bytes=arriving_bytes(costs, cut, update_ranks),
            head_bytes=client_head_weights(costs, settings.labels),
        ),
        Moment.TRAINING: training,
        Moment.SCORING: replace(
            training,
            adapters_bytes=float(factors + gradients),
            probe_bytes=_probe_bytes(costs, inside, inputs, settings.labels, alone),
        ),
        Moment.UPDATING: replace(
            training,
            # The optimizer needs room for as many numbers again.
            adapters_bytes=float(5 * factors),
            activations_bytes=costs.shared_bytes,
            head_bytes=client_head_weights(costs, settings.labels),
        ),
    }


def client_memory_without_ranks(
    costs: ModelCosts,
    *,
    cut: int,
    settings: PlanSettings,
    update_ranks: Mapping[str, int] = NO_UPDATE,
    checkpointing: bool = False,
) -> MemoryParts:
    """What a client at this cut needs before any weight is adapted."""
    weights = [weight for weight in costs.weights if weight.block < cut]
    # One tensor there and one back; with the labels on the client, two each.
    num_crossing = 2 if settings.labels is Labels.SERVER else 4
    inside = num_inside(cut, checkpointing=checkpointing)
    block_inputs = cut * costs.hidden_bytes if checkpointing else 0.0
    alone = costs.block.saved_bytes if checkpointing else 0.0
    return MemoryParts(
        weights_bytes=costs.entry_bytes + sum(costs.block_bytes[:cut]),
        frozen_factors_bytes=sum(
            frozen_bytes(costs, weight, update_ranks.get(weight.name, 0)) for weight in weights
        ),
        activations_bytes=(
            (costs.given_bytes if checkpointing else costs.shared_bytes)
            + block_inputs
            + inside * costs.block.saved_bytes
            + costs.block.working_bytes
        ),
        head_bytes=_client_head_bytes(costs, settings.labels, alone),
        probe_bytes=_probe_bytes(costs, inside, AdapterInputs(), settings.labels, alone),
        in_flight_bytes=num_crossing * (costs.hidden_bytes + costs.wire_hidden_bytes),
    )


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
        adapted = _adapted(costs, Span(start=cut, stop=costs.num_blocks), ranks)
        adapters += sum(
            ranks[weight.name]
            * session_rank_bytes(
                costs, weight, update_ranks.get(weight.name, 0), start=settings.start
            )
            for weight in adapted
        )
        steps.append(
            (costs.num_blocks - cut) * (costs.block.saved_bytes + costs.block.layer_inputs_bytes)
            + _adapter_inputs(costs, adapted).copies_bytes
            + _products_bytes(costs, adapted, ranks)
        )
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
    working = max(costs.block.working_bytes, costs.block.scoring_bytes)
    if settings.labels is Labels.SERVER:
        working = max(working, costs.head.saved_bytes + costs.head.working_bytes)
    return MemoryParts(
        weights_bytes=worker_half_bytes(costs, settings),
        frozen_factors_bytes=_factors_bytes(weights, update_ranks),
        activations_bytes=costs.shared_bytes + working,
        in_flight_bytes=2 * (costs.hidden_bytes + costs.wire_hidden_bytes),
    )


def worker_half_bytes(costs: ModelCosts, settings: PlanSettings) -> float:
    """Bytes of the half that a worker loads, and `WorkerDescription.memory_bytes` is beside."""
    return costs.exit_bytes + sum(costs.block_bytes[settings.min_cut :])


def whole_model_memory(
    costs: ModelCosts, *, rank: int, settings: PlanSettings | None = None
) -> MemoryParts:
    """What it takes to train the unsplit model with adapters of one rank on every weight."""
    settings = settings or PlanSettings()
    unsplit = replace(settings, labels=Labels.CLIENT)
    ranks = {weight.name: rank for weight in costs.target_weights(settings.targets)}
    parts = client_memory(costs, cut=costs.num_blocks, ranks=ranks, settings=unsplit)
    return replace(parts, in_flight_bytes=0.0)


def frozen_bytes(costs: ModelCosts, weight: Weight, update_rank: int) -> float:
    """Bytes of the frozen global update of one weight on a client, float32.

    ``4 · R · (in + out)``, unless its factors hold more numbers than the matrix and the matrix is
    float32: then it is added to the weight in memory (DESIGN 3.6).
    """
    if is_merged(costs, weight, update_rank):
        return 0.0
    return float(FLOAT32_BYTES * update_rank * weight.parameters_per_rank)


def arriving_bytes(costs: ModelCosts, cut: int, update_ranks: Mapping[str, int]) -> float:
    """Bytes of the global update below a cut as it arrives: ``4 · R · (in + out)`` each."""
    return _factors_bytes((w for w in costs.weights if w.block < cut), update_ranks)


def frozen_change_bytes(
    costs: ModelCosts, weight: Weight, rank: int, update_rank: int, *, start: Start
) -> float:
    """What training this many ranks of a weight changes about its frozen part.

    Adapters that start from an update's leading directions take these out of it: where it is
    factored it is smaller by them, where it is in the weight they are held once more, as `-B⁰A⁰`.
    """
    if start is not Start.CONTINUE:
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
    return is_dear and costs.workload.dtype_bytes == FLOAT32_BYTES


def session_rank_bytes(
    costs: ModelCosts, weight: Weight, update_rank: int, *, start: Start
) -> float:
    """What one trained rank of a weight takes in a session on the worker."""
    return adapter_bytes(weight) + frozen_bytes_per_rank(costs, weight, update_rank, start=start)


def scoring_bytes(costs: ModelCosts, labels: Labels) -> float:
    """What a step that scores importance has alive at its peak beyond another step, inputs apart.

    Not at the same moment as the head, where that is on the client: the higher of the two counts.
    """
    head = _head_running_bytes(costs, labels)
    return max(costs.block.scoring_bytes, head) - max(costs.block.working_bytes, head)


def num_inside(cut: int, *, checkpointing: bool) -> int:
    """Of how many blocks what is inside them is there at once."""
    return min(1, cut) if checkpointing else cut


def _factors_bytes(weights: Iterable[Weight], update_ranks: Mapping[str, int]) -> float:
    """The global update of these weights as factors."""
    return float(
        sum(FLOAT32_BYTES * update_ranks.get(w.name, 0) * w.parameters_per_rank for w in weights)
    )


def _kept_for_adapters(
    costs: ModelCosts, adapted: Sequence[Weight], ranks: Mapping[str, int], *, checkpointing: bool
) -> tuple[AdapterInputs, float]:
    """Inputs and ``A x`` that are kept at once: of all blocks, or of the dearest one."""
    if not checkpointing:
        return _adapter_inputs(costs, adapted), _products_bytes(costs, adapted, ranks)
    blocks: dict[int, list[Weight]] = {}
    for weight in adapted:
        blocks.setdefault(weight.block, []).append(weight)
    kept = [(_adapter_inputs(costs, b), _products_bytes(costs, b, ranks)) for b in blocks.values()]
    none = (AdapterInputs(), 0.0)
    return max(kept, key=lambda pair: pair[0].total_bytes + pair[1], default=none)


def _probe_bytes(
    costs: ModelCosts, inside: int, inputs: AdapterInputs, labels: Labels, alone: float
) -> float:
    """What the step that scores importance needs beyond any other step.

    ``alone`` is what is not there while the head runs, because its block is run again later.
    """
    more_kept = inside * costs.block.layer_inputs_bytes - inputs.originals_bytes
    if not alone:
        return max(0.0, more_kept + scoring_bytes(costs, labels))
    head = _head_running_bytes(costs, labels)
    scoring = max(head, alone + more_kept + costs.block.scoring_bytes)
    return max(0.0, scoring - max(head, alone + costs.block.working_bytes))


def _adapted(costs: ModelCosts, span: Span, ranks: Mapping[str, int]) -> list[Weight]:
    return [w for w in costs.weights if w.block in span and ranks.get(w.name, 0) > 0]


def _adapter_inputs(costs: ModelCosts, adapted: Iterable[Weight]) -> AdapterInputs:
    paths: dict[int, list[str]] = {}
    for weight in adapted:
        paths.setdefault(weight.block, []).append(costs.path_in_block(weight))
    return sum((costs.block.adapter_inputs(held) for held in paths.values()), AdapterInputs())


def _products_bytes(
    costs: ModelCosts, adapted: Iterable[Weight], ranks: Mapping[str, int]
) -> float:
    """The ``A x`` of all adapters."""
    sum_of_ranks = sum(ranks[weight.name] for weight in adapted)
    return sum_of_ranks * costs.adapter_activation_bytes_per_rank


def _client_head_bytes(costs: ModelCosts, labels: Labels, alone: float) -> float:
    """Norm, head and loss on a client, beyond what its blocks need at another moment."""
    elsewhere = alone + costs.block.working_bytes
    running = _head_running_bytes(costs, labels) - elsewhere
    return client_head_weights(costs, labels) + max(0.0, running)


def client_head_weights(costs: ModelCosts, labels: Labels) -> float:
    """Norm and head, where a client has the labels; a tied head is its embedding."""
    return 0.0 if labels is Labels.SERVER else costs.exit_bytes - costs.tied_bytes


def _head_running_bytes(costs: ModelCosts, labels: Labels) -> float:
    """All that is alive while a client computes the loss; nothing where the worker does."""
    if labels is Labels.SERVER:
        return 0.0
    return costs.head.saved_bytes + costs.head.working_bytes
