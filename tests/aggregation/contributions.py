"""Updates of one weight, and what clients that start from them bring to the server."""

import torch

from hsplit_flower.adapters.low_rank import LowRank, compress
from hsplit_flower.adapters.start import fold, initial_update, starting_point
from hsplit_flower.aggregation import Contribution
from hsplit_flower.types import Start

LAW = 1e-6
OUT, IN = 40, 30
SCALE = 2.0
Clients = list[tuple[int, int]]


def random_factors(rank: int, out_features: int = OUT, in_features: int = IN) -> LowRank:
    return LowRank(b=torch.randn(out_features, rank), a=torch.randn(rank, in_features))


def canonical_update(rank: int) -> LowRank:
    return compress(random_factors(rank).scale(0.1))


def train(update: LowRank, rank: int, start: Start, step: float = 0.1) -> tuple[LowRank, LowRank]:
    """Where a client ends that starts from ``update``, and where it really started, both folded."""
    point = starting_point(
        update, rank=rank, start=start, scale=SCALE, generator=torch.Generator().manual_seed(rank)
    )
    b, a = point.trainable_b, point.trainable_a
    end = fold(b + step * torch.randn_like(b), a + step * torch.randn_like(a), SCALE)
    return end, fold(b, a, SCALE)


def contributions_of(
    update: LowRank, clients: Clients, start: Start
) -> tuple[list[Contribution], list[Contribution]]:
    """What the clients bring to the server, and the same with the true starting factors."""
    told, true = [], []
    for num_examples, rank in clients:
        end, begin = train(update, rank, start)
        told.append(
            Contribution(
                num_examples=num_examples,
                trained=end,
                initial=initial_update(update, rank, start),
            )
        )
        true.append(Contribution(num_examples=num_examples, trained=end, initial=begin))
    return told, true
