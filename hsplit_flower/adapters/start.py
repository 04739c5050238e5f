"""Where a client's adapters start a round, so that the model starts as the exact global update.

Two representations of a pair of factors are kept apart here. *Folded* factors are a `LowRank`:
their product is the update itself. *Raw* factors are what an optimizer trains: their product times
``scale`` is the update, ``ΔW = scale · b a``. `fold` goes from raw to folded.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import AdapterError
from ..types import Start
from .low_rank import LowRank


@dataclass(frozen=True, kw_only=True, eq=False)
class StartingPoint:
    """What one weight computes with when a round starts.

    ``(W + merge) x + frozen x + scale · trainable_b (trainable_a x)`` equals ``(W + update) x``.

    ``trainable_b`` and ``trainable_a`` are raw, of the client's full rank, and its own to change.
    ``initial`` is ``B⁰A⁰``, the same factors folded without those whose ``b`` is zero: what the
    aggregation subtracts. ``frozen`` is folded and may be a view of the update. ``merge``, unless
    None, is the whole update, the same for every client, to be added to the in-memory ``W``; it is
    rounded there if that holds less than float32.
    """

    trainable_b: Float[Tensor, "out_features rank"]
    trainable_a: Float[Tensor, "rank in_features"]
    initial: LowRank
    frozen: LowRank
    merge: LowRank | None = None

    @property
    def into_weight(self) -> bool:
        """Whether the update goes into ``W`` instead of staying factored."""
        return self.merge is not None

    def frozen_shares(self) -> Float[Tensor, " direction"]:
        """How much of each leading direction of the global update is in ``frozen``.

        0 for a direction that is trained, 1 for one that is not. Where the whole update was added
        to ``W``, -1 for a trained direction: it is in ``W`` once too often, and is taken off.
        """
        trained = self.initial.rank
        if self.into_weight:
            return torch.full((trained,), -1.0)
        return torch.cat([torch.zeros(trained), torch.ones(self.frozen.rank)])


def starting_point(
    update: LowRank,
    *,
    rank: int,
    start: Start,
    scale: float,
    generator: torch.Generator,
    factored_below: int | None = None,
) -> StartingPoint:
    """Trainable and frozen factors that together are exactly the global update.

    ``RESTART``: ``b`` zero, ``a`` random as in LoRA, the whole update frozen. ``CONTINUE``: the
    leading ``rank`` directions of the update are trainable, the rest is frozen; if the update has
    fewer, the missing ones start as in LoRA. ``FACTORS``: the same of a round's raw factors.

    Parameters
    ----------
    update
        The global update in canonical form, as `compress` returns it, but for ``FACTORS``.
    rank
        How many directions this client trains; 0 trains none.
    scale
        What the layer multiplies the trainable product by.
    generator
        Source of the random directions.
    factored_below
        An update of at least this rank is merged into ``W``, and ``B⁰A⁰`` is then subtracted by the
        frozen factors. None merges where factors hold more numbers than the dense form. The rule
        looks at the update alone, so that all clients of one weight share one ``W``.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise AdapterError(f"scale must be a positive number, got {scale}")
    initial = initial_update(update, rank, start)
    missing = rank - initial.rank
    # A pair that goes on is the raw one of the round before, as `fold` left it.
    of_b, of_a = (scale, 1.0) if start is Start.FACTORS else (math.sqrt(scale), math.sqrt(scale))
    random = _random_directions(missing, update.in_features, generator).to(update.a.device)
    if is_merged(update, factored_below):
        merge, frozen = update, -initial
    else:
        merge, frozen = None, update.tail(initial.rank)
    return StartingPoint(
        trainable_b=torch.cat(
            [_divided(initial.b, of_b), initial.b.new_zeros(len(initial.b), missing)], 1
        ),
        trainable_a=torch.cat([_divided(initial.a, of_a), random]),
        initial=initial,
        frozen=frozen,
        merge=merge,
    )


def is_merged(update: LowRank, factored_below: int | None) -> bool:
    """Whether an update goes into ``W``; ``factored_below`` as in `starting_point`."""
    out_features, in_features = update.out_features, update.in_features
    if factored_below is None:
        return update.rank * (out_features + in_features) > out_features * in_features
    return update.rank >= max(1, factored_below)


def initial_update(update: LowRank, rank: int, start: Start) -> LowRank:
    """``B⁰A⁰`` of a client that trains ``rank`` directions: what the aggregation subtracts.

    Nothing in it is random, so the server need not be told. A view of ``update``: its leading
    directions, or rank 0 for ``RESTART``.
    """
    if rank < 0:
        raise AdapterError(f"a trainable rank must be 0 or more, got {rank}")
    return update.head(0 if start is Start.RESTART else rank)


def fold(
    b: Float[Tensor, "out_features rank"], a: Float[Tensor, "rank in_features"], scale: float
) -> LowRank:
    """The update ``scale · b a`` that raw factors stand for, cut loose from their graph."""
    return LowRank(b=(b.detach().double() * scale).float(), a=a.detach().float())


def _divided(factor: Tensor, divisor: float) -> Tensor:
    """``factor / divisor``, rounded once: a float32 root would shift every product the same way."""
    return (factor.double() / divisor).float()


def _random_directions(rank: int, in_features: int, generator: torch.Generator) -> Tensor:
    """LoRA's ``A``: Kaiming uniform with ``a = √5``, that is uniform in ``± 1/√in_features``."""
    bound = 1 / math.sqrt(in_features)
    directions = torch.empty(rank, in_features, device=generator.device)
    return directions.uniform_(-bound, bound, generator=generator)
