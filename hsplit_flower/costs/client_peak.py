"""How many bytes a client needs at its peak, for a given cut and given ranks.

The peak is at one of four moments of a round. When the client is set up, the whole global update is
there, also what then goes into the weights. Where a backward pass begins, everything kept
is still there and the first gradients are made. The first step also scores importance, before the
optimizer has made its moments. When a step ends, the activations are gone and all gradients are
there. What crosses the cut is there twice, as a tensor and as a message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum

from ..settings.planning import PlanSettings
from ..types import Labels, MemoryParts, Span, Start, Weight
from .adapter_activations import adapted_weights, kept_for_adapters
from .global_update import NO_UPDATE, arriving_bytes, frozen_bytes, frozen_change_bytes
from .model_costs import FLOAT32_BYTES, AdapterInputs, ModelCosts


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
    adapted = adapted_weights(costs, Span(start=0, stop=cut), ranks)
    inputs, products = kept_for_adapters(costs, adapted, ranks, checkpointing=checkpointing)
    blocks = costs.passes[:cut]
    factors, gradients = _factors_and_gradients(adapted, ranks)
    # What comes and goes with each block that is run again.
    saved = inside_bytes([one.saved_bytes for one in blocks], checkpointing=True)
    alone = saved + inputs.total_bytes + products if checkpointing else 0.0
    training = replace(
        bare,
        # Parameters and two moments; of the gradients, those of the block that is gone through.
        adapters_bytes=float(3 * factors + gradients),
        frozen_factors_bytes=bare.frozen_factors_bytes
        + _frozen_changes(costs, adapted, ranks, update_ranks, settings.start),
        activations_bytes=(bare.activations_bytes + inputs.total_bytes + products),
        head_bytes=_client_head_bytes(costs, cut, settings.labels, alone),
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
            probe_bytes=_probe_bytes(costs, cut, inputs, settings.labels, alone),
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
    saved = inside_bytes(
        [one.saved_bytes for one in costs.passes[:cut]], checkpointing=checkpointing
    )
    block_inputs = cut * costs.hidden_bytes if checkpointing else 0.0
    alone = saved if checkpointing else 0.0
    return MemoryParts(
        weights_bytes=costs.entry_bytes + sum(costs.block_bytes[:cut]),
        frozen_factors_bytes=sum(
            frozen_bytes(costs, weight, update_ranks.get(weight.name, 0)) for weight in weights
        ),
        activations_bytes=(
            (costs.given_bytes if checkpointing else costs.shared_bytes)
            + block_inputs
            + saved
            + _working_bytes(costs, cut)
        ),
        head_bytes=_client_head_bytes(costs, cut, settings.labels, alone),
        probe_bytes=_probe_bytes(costs, cut, AdapterInputs(), settings.labels, alone),
        smashed_data_bytes=num_crossing * costs.crossing_bytes,
    )


def whole_model_memory(
    costs: ModelCosts, *, rank: int, settings: PlanSettings | None = None
) -> MemoryParts:
    """What it takes to train the unsplit model with adapters of one rank on every weight."""
    settings = settings or PlanSettings()
    unsplit = settings.replace(labels=Labels.CLIENT)
    ranks = {weight.name: rank for weight in costs.target_weights(settings.target_modules)}
    parts = client_memory(costs, cut=costs.num_blocks, ranks=ranks, settings=unsplit)
    return replace(parts, smashed_data_bytes=0.0)


def client_head_weights(costs: ModelCosts, labels: Labels) -> float:
    """Norm and head, where a client has the labels; a tied head is its embedding."""
    return 0.0 if labels is Labels.SERVER else costs.exit_bytes - costs.tied_bytes


def scoring_bytes(costs: ModelCosts, cut: int, labels: Labels) -> float:
    """What a step that scores importance has alive at its peak beyond another step, inputs apart.

    Not at the same moment as the head, where that is on the client: the higher of the two counts.
    """
    head = _head_running_bytes(costs, labels)
    return max(_scoring_bytes(costs, cut), head) - max(_working_bytes(costs, cut), head)


def inside_bytes(by_block: Sequence[float], *, checkpointing: bool) -> float:
    """Of what is kept inside each block, how much is there at once: all, or that of one block."""
    return max(by_block, default=0.0) if checkpointing else sum(by_block)


def _working_bytes(costs: ModelCosts, cut: int) -> float:
    """What the block that runs needs besides, of those below a cut."""
    return max((one.working_bytes for one in costs.passes[:cut]), default=0.0)


def _scoring_bytes(costs: ModelCosts, cut: int) -> float:
    """The same while it is scored."""
    return max((one.scoring_bytes for one in costs.passes[:cut]), default=0.0)


def _factors_and_gradients(adapted: Sequence[Weight], ranks: Mapping[str, int]) -> tuple[int, int]:
    """Bytes of all trained factors, and of the gradients of the block that has the most."""
    numbers: dict[int, int] = {}
    for weight in adapted:
        trained = ranks[weight.name] * weight.parameters_per_rank
        numbers[weight.block] = numbers.get(weight.block, 0) + trained
    by_block = numbers.values()
    return FLOAT32_BYTES * sum(by_block), FLOAT32_BYTES * max(by_block, default=0)


def _frozen_changes(
    costs: ModelCosts,
    adapted: Sequence[Weight],
    ranks: Mapping[str, int],
    update_ranks: Mapping[str, int],
    start: Start,
) -> float:
    """What training these ranks changes about the frozen parts of all weights."""
    return sum(
        frozen_change_bytes(
            costs, weight, ranks[weight.name], update_ranks.get(weight.name, 0), start=start
        )
        for weight in adapted
    )


def _probe_bytes(
    costs: ModelCosts, cut: int, inputs: AdapterInputs, labels: Labels, alone: float
) -> float:
    """What the step that scores importance needs beyond any other step.

    ``alone`` is what is not there while the head runs, because its block is run again later.
    """
    layer_inputs = [one.layer_inputs_bytes for one in costs.passes[:cut]]
    more_kept = inside_bytes(layer_inputs, checkpointing=bool(alone)) - inputs.originals_bytes
    if not alone:
        return max(0.0, more_kept + scoring_bytes(costs, cut, labels))
    head = _head_running_bytes(costs, labels)
    scoring = max(head, alone + more_kept + _scoring_bytes(costs, cut))
    return max(0.0, scoring - max(head, alone + _working_bytes(costs, cut)))


def _client_head_bytes(costs: ModelCosts, cut: int, labels: Labels, alone: float) -> float:
    """Norm, head and loss on a client, beyond what its blocks need at another moment."""
    elsewhere = alone + _working_bytes(costs, cut)
    running = _head_running_bytes(costs, labels) - elsewhere
    return client_head_weights(costs, labels) + max(0.0, running)


def _head_running_bytes(costs: ModelCosts, labels: Labels) -> float:
    """All that is alive while a client computes the loss; nothing where the worker does."""
    if labels is Labels.SERVER:
        return 0.0
    return costs.head.saved_bytes + costs.head.working_bytes
