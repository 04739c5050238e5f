"""Seconds and bytes of a round on the paper's fleet, by the cost model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from benchmarks.study.arms import CENTRALISED
from benchmarks.study.budgets import num_parameters, numbers_per_rank, planned
from benchmarks.study.fleet import XAVIER_FLOPS, Link, server, xavier
from hsplit_flower.costs import ModelCosts, PartSeconds, adapter_flops, part_seconds, wire_bytes
from hsplit_flower.costs.seconds import blocks_flops, scoring_flops
from hsplit_flower.methods import AggregationRule, Method, RankRule
from hsplit_flower.settings import PlanSettings, Training
from hsplit_flower.simulation.clock import simulate_round
from hsplit_flower.types import ClientPlan, Labels, Span, Start

FLOAT32_BYTES, FLOAT16_BYTES = 4, 2
# Enough for whatever a method asks for: what is looked at here is time.
ROOM_GB = 1000.0


@dataclass(frozen=True, kw_only=True)
class RoundCost:
    """One round: its seconds, and what a client sends and is sent, in the mean over clients.

    ``adapter_bytes`` are the messages at its ends (a whole model where that is what is trained),
    ``activation_bytes`` what crosses the cut in all its steps, both directions of either.
    """

    seconds: float
    step_seconds: float
    adapter_bytes: float
    activation_bytes: float

    @property
    def client_bytes(self) -> float:
        return self.adapter_bytes + self.activation_bytes


def round_cost(
    costs: ModelCosts,
    method: Method,
    trained: Sequence[float],
    sent: float,
    *,
    num_steps: int,
    link: Link | None = None,
    memory_gb: Sequence[float] | None = None,
) -> RoundCost:
    """What a round of ``num_steps`` takes.

    Parameters
    ----------
    trained
        Mean rank that each client trains.
    sent
        Mean rank of the global adapter when the round begins.
    memory_gb
        Of each client, by which cuts are planned; enough for everything where None.
    """
    link = link or Link()
    if method == CENTRALISED:
        return _central_cost(costs, trained[0], len(trained), num_steps)
    if method.is_split:
        return _split_cost(costs, method, trained, sent, num_steps, link, memory_gb)
    return _whole_cost(costs, method, trained, sent, num_steps, link)


def _central_cost(costs: ModelCosts, rank: float, num_batches: int, num_steps: int) -> RoundCost:
    """One Xavier that takes the batches of all clients in each of its steps."""
    step = num_batches * whole_flops(costs, CENTRALISED, rank, 0.0) / XAVIER_FLOPS
    return RoundCost(
        seconds=num_steps * step, step_seconds=step, adapter_bytes=0.0, activation_bytes=0.0
    )


def whole_flops(costs: ModelCosts, method: Method, rank: float, sent: float) -> float:
    """Operations of a step on the whole model."""
    everything = Span(start=0, stop=costs.num_blocks)
    traced = blocks_flops(costs.passes) + costs.head.flops
    if not method.has_adapters:
        # Forward, the inputs' gradients and the weights' own: a third more than was traced.
        return traced + scoring_flops(costs, everything) + costs.head.flops / 2
    start = method.start or Start.CONTINUE
    return traced + _adapter_flops(costs, round(rank), start, round(_frozen_rank(method, sent)))


@cache
def _adapter_flops(costs: ModelCosts, rank: int, start: Start, frozen: int) -> float:
    return adapter_flops(
        costs,
        span=Span(start=0, stop=costs.num_blocks),
        ranks=_on_all(costs, rank),
        start=start,
        update_ranks=_on_all(costs, frozen),
    )


def sent_rank(method: Method, trained: Sequence[float], own: float, known: float) -> float:
    """Mean rank of what a client is sent, if the global adapter has ``known``."""
    if method.aggregation is AggregationRule.STACKED:
        return sum(trained) if known else 0.0
    return min(own, known) if method.truncates else known


def _whole_cost(
    costs: ModelCosts,
    method: Method,
    trained: Sequence[float],
    sent: float,
    num_steps: int,
    link: Link,
) -> RoundCost:
    seconds, steps, messages = [], [], []
    for rank in trained:
        down, up = _message_bytes(costs, method, trained, rank, sent, costs.num_blocks)
        step = whole_flops(costs, method, rank, sent) / XAVIER_FLOPS
        seconds.append(num_steps * step + link.seconds(down) + link.seconds(up))
        steps.append(step)
        messages.append(down + up)
    return RoundCost(
        seconds=max(seconds),
        step_seconds=max(steps),
        adapter_bytes=sum(messages) / len(messages),
        activation_bytes=0.0,
    )


def _split_cost(
    costs: ModelCosts,
    method: Method,
    trained: Sequence[float],
    sent: float,
    num_steps: int,
    link: Link,
    memory_gb: Sequence[float] | None,
) -> RoundCost:
    plan = planned(costs, method, tuple(memory_gb or [ROOM_GB] * len(trained)), link)
    parts = plan.clients.values()
    # The first step of a round scores importance, where that is looked at.
    scores = method.ranks is RankRule.BY_IMPORTANCE
    frozen = round(_frozen_rank(method, sent))
    steps = {}
    for client, (part, rank) in enumerate(zip(parts, trained, strict=True)):
        known = (costs, method, part.cut, part.checkpointing, round(rank), frozen, link)
        first, other = (_part_seconds(*known, scores=own) for own in (scores, False))
        steps[client] = [first, *[other] * (num_steps - 1)]
    messages = [
        _message_bytes(costs, method, trained, rank, sent, part.cut)
        for part, rank in zip(parts, trained, strict=True)
    ]
    seconds = simulate_round(steps).seconds
    ends = max(link.seconds(down) + link.seconds(up) for down, up in messages)
    crossing = wire_bytes(costs, Labels.SERVER).total_bytes
    return RoundCost(
        seconds=seconds + ends,
        step_seconds=seconds / num_steps,
        adapter_bytes=sum(down + up for down, up in messages) / len(messages),
        activation_bytes=num_steps * crossing,
    )


@cache
def _part_seconds(
    costs: ModelCosts,
    method: Method,
    cut: int,
    checkpointing: bool,
    rank: int,
    frozen: int,
    link: Link,
    *,
    scores: bool,
) -> PartSeconds:
    return part_seconds(
        costs,
        ClientPlan(
            span=Span(start=0, stop=cut), ranks=_on_all(costs, rank), checkpointing=checkpointing
        ),
        profile=xavier(ROOM_GB, link),
        worker=server(),
        settings=PlanSettings(start=method.start or Training().start),
        update_ranks=_on_all(costs, frozen),
        scores=scores,
    )


def _message_bytes(
    costs: ModelCosts,
    method: Method,
    trained: Sequence[float],
    rank: float,
    known: float,
    cut: int,
) -> tuple[float, float]:
    """Down to a client and up from it, at the ends of a round."""
    if not method.has_adapters:
        model = num_parameters(costs) * costs.workload.dtype_bytes
        return model, model
    numbers = numbers_per_rank(costs, cut)
    is_bounded = method.aggregation is AggregationRule.EXACT_SUM
    down = numbers * sent_rank(method, trained, rank, known)
    return down * (FLOAT16_BYTES if is_bounded else FLOAT32_BYTES), numbers * rank * FLOAT32_BYTES


def _frozen_rank(method: Method, known: float) -> float:
    """What a client has of the global adapter besides what it trains, before that is taken off."""
    if method.merges or method.keeps_pair or method.truncates:
        return 0.0
    return known


def _on_all(costs: ModelCosts, rank: int) -> Mapping[str, int]:
    return dict.fromkeys((weight.name for weight in costs.weights), rank)
