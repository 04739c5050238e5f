"""How long one training step takes a client, its link and the worker, and what it sends."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..settings.planning import PlanSettings
from ..types import ClientPlan, DeviceProfile, Labels, Span, Start
from .global_update import NO_UPDATE, is_merged
from .model_costs import WIRE_INTEGER_BYTES, ModelCosts, PassCosts

# A number of a trained factor is used in three products, one of a frozen factor in two: forward,
# the input's gradient, and its own. A product takes a multiplication and an addition.
FORWARD_FLOPS, FROZEN_FLOPS, TRAINED_FLOPS = 2, 4, 6
# The block was traced with adapters of this rank on all weights.
TRACED_RANK = 1


@dataclass(frozen=True, kw_only=True)
class WireBytes:
    """What one step sends from the client up to the worker, and back down."""

    up_bytes: float
    down_bytes: float

    @property
    def total_bytes(self) -> float:
        return self.up_bytes + self.down_bytes


def wire_bytes(costs: ModelCosts, labels: Labels) -> WireBytes:
    """What one step sends: the same at every cut.

    With the labels on the server, the hidden state with labels and lengths goes up and its gradient
    comes down. With the labels on the client, hidden state and gradient of the last hidden state go
    up, last hidden state and gradient come down; the labels do not travel.
    """
    if not costs.has_cut:
        return WireBytes(up_bytes=0.0, down_bytes=0.0)
    lengths = costs.workload.batch_size * WIRE_INTEGER_BYTES
    hidden = costs.wire_hidden_bytes
    if labels is Labels.CLIENT:
        return WireBytes(up_bytes=2 * hidden + lengths, down_bytes=2 * hidden)
    sent_labels = costs.workload.num_tokens * WIRE_INTEGER_BYTES
    return WireBytes(up_bytes=hidden + sent_labels + lengths, down_bytes=hidden)


def latency_seconds(costs: ModelCosts, *, profile: DeviceProfile, labels: Labels) -> float:
    """What of a step's time on the link is round trips, however much is sent."""
    exchanges = 0 if not costs.has_cut else 1 if labels is Labels.SERVER else 2
    return exchanges * profile.round_trip_seconds


def link_seconds(costs: ModelCosts, *, profile: DeviceProfile, labels: Labels) -> float:
    """Time of one step on the link: ``up/rate + down/rate``, and one round trip per exchange."""
    wire = wire_bytes(costs, labels)
    return (
        latency_seconds(costs, profile=profile, labels=labels)
        + wire.up_bytes / profile.up_bytes_per_second
        + wire.down_bytes / profile.down_bytes_per_second
    )


def blocks_flops(passes: Iterable[PassCosts], *, checkpointing: bool = False) -> float:
    """Operations of these blocks in one step; forward twice where their insides are not kept."""
    return sum(one.flops + (one.forward_flops if checkpointing else 0.0) for one in passes)


def client_seconds(
    costs: ModelCosts,
    *,
    cut: int,
    profile: DeviceProfile,
    labels: Labels,
    more_flops: float = 0.0,
    checkpointing: bool = False,
) -> float:
    """``T_i(s)``: a client's compute of ``s`` blocks and its link, for one step.

    ``more_flops`` is what its adapters compute beyond those of rank 1 (`adapter_flops`); with
    ``checkpointing`` every block runs forward twice.
    """
    flops = blocks_flops(costs.passes[:cut], checkpointing=checkpointing) + more_flops
    if labels is Labels.CLIENT:
        flops += costs.head.flops
    return flops / profile.flops_per_second + link_seconds(costs, profile=profile, labels=labels)


def worker_seconds(
    costs: ModelCosts,
    *,
    cut: int,
    worker: DeviceProfile,
    labels: Labels,
    more_flops: float = 0.0,
    checkpointing: bool = False,
) -> float:
    """``S_i(s)``: the worker's compute of ``L − s`` blocks, and the head where it is there."""
    flops = blocks_flops(costs.passes[cut:], checkpointing=checkpointing) + more_flops
    if labels is Labels.SERVER:
        flops += costs.head.flops
    return flops / worker.flops_per_second


@dataclass(frozen=True, kw_only=True)
class PartSeconds:
    """One step of a client: on its own device, on its link, and on the worker."""

    compute_seconds: float
    link_seconds: float
    worker_seconds: float


def part_seconds(
    costs: ModelCosts,
    part: ClientPlan,
    *,
    profile: DeviceProfile,
    worker: DeviceProfile,
    settings: PlanSettings,
    update_ranks: Mapping[str, int] = NO_UPDATE,
    scores: bool = False,
) -> PartSeconds:
    """Where the seconds of one planned step go on these devices, adapters and all.

    Parameters
    ----------
    costs, part
        Of the model, and a client's cut, ranks and way of keeping activations.
    profile, worker
        The client's device and the worker's, as they are now.
    settings
        Who computes the loss, what adapters start from, and what the worker keeps.
    update_ranks
        Rank of the global update by weight name.
    scores
        Whether the step also scores importance, as the first one of a round does.
    """
    labels = settings.labels
    below, above = _more_flops(
        costs, part, settings=settings, update_ranks=update_ranks, scores=scores
    )
    link = link_seconds(costs, profile=profile, labels=labels)
    own = client_seconds(
        costs,
        cut=part.cut,
        profile=profile,
        labels=labels,
        more_flops=below,
        checkpointing=part.checkpointing,
    )
    return PartSeconds(
        compute_seconds=own - link,
        link_seconds=link,
        worker_seconds=worker_seconds(
            costs,
            cut=part.cut,
            worker=worker,
            labels=labels,
            more_flops=above,
            checkpointing=settings.worker_checkpointing,
        ),
    )


def seconds_at(length: float, known: Mapping[int, PartSeconds]) -> PartSeconds:
    """A step of batches whose rows are ``length`` tokens long, from those of two other lengths.

    A row of ``n`` tokens takes ``a n + b n²`` operations, the second term for attention, so those
    of a token are a straight line in ``n``. What the link takes is a straight line itself.

    Parameters
    ----------
    length
        Padding included; a mean of several steps need not be whole.
    known
        The same step, by the length of its rows.
    """
    (low, short), (high, long) = sorted(known.items())
    share = (length - low) / (high - low)

    def line(at_low: float, at_high: float) -> float:
        return at_low + share * (at_high - at_low)

    def computed(at_low: float, at_high: float) -> float:
        return length * line(at_low / low, at_high / high)

    return PartSeconds(
        compute_seconds=computed(short.compute_seconds, long.compute_seconds),
        link_seconds=line(short.link_seconds, long.link_seconds),
        worker_seconds=computed(short.worker_seconds, long.worker_seconds),
    )


def scoring_flops(costs: ModelCosts, span: Span) -> float:
    """Operations of scoring these blocks' weights: ``G = δᵀx``, ``2 n in out`` each."""
    numbers = sum(
        weight.in_features * weight.out_features for weight in costs.weights if weight.block in span
    )
    return 2.0 * costs.workload.num_tokens * numbers


def adapter_flops(
    costs: ModelCosts,
    *,
    span: Span,
    ranks: Mapping[str, int],
    start: Start,
    update_ranks: Mapping[str, int] = NO_UPDATE,
    checkpointing: bool = False,
) -> float:
    """Operations of the adapters of these blocks beyond those of the rank that was traced.

    ``n (in + out) (6 (r − 1) + 4 f)`` a weight, for ``n`` tokens, ``r`` trained and ``f`` frozen
    ranks; less than nothing where a weight is not adapted. ``checkpointing`` runs them forward
    twice, which is 2 more of each.
    """
    again = FORWARD_FLOPS if checkpointing else 0
    total = 0.0
    for weight in costs.weights:
        if weight.block not in span:
            continue
        rank, update_rank = ranks.get(weight.name, 0), update_ranks.get(weight.name, 0)
        continued = min(rank, update_rank) if start is not Start.RESTART else 0
        frozen = continued if is_merged(costs, weight, update_rank) else update_rank - continued
        trained = (TRAINED_FLOPS + again) * (rank - TRACED_RANK)
        per_number = trained + (FROZEN_FLOPS + again) * frozen
        total += per_number * weight.parameters_per_rank
    return total * costs.workload.num_tokens


def _more_flops(
    costs: ModelCosts,
    part: ClientPlan,
    *,
    settings: PlanSettings,
    update_ranks: Mapping[str, int],
    scores: bool,
) -> tuple[float, float]:
    """What a step computes beyond what was traced, below the cut and above it."""
    below, above = (
        adapter_flops(
            costs,
            span=span,
            ranks=part.ranks,
            start=settings.start,
            update_ranks=update_ranks,
            checkpointing=checkpointing,
        )
        + (scoring_flops(costs, span) if scores else 0.0)
        for span, checkpointing in (
            (part.span, part.checkpointing),
            (Span(start=part.cut, stop=costs.num_blocks), settings.worker_checkpointing),
        )
    )
    return below, above
