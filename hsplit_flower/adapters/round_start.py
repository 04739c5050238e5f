"""Where every weight of a half starts a round, from the global update and one seed."""

import sys
import zlib
from collections.abc import Iterable, Mapping

import torch

from ..errors import AdapterError
from ..types import Start, Weight
from .low_rank import LowRank
from .start import StartingPoint, starting_point


def starting_points(
    weights: Iterable[Weight],
    updates: Mapping[str, LowRank],
    ranks: Mapping[str, int],
    *,
    start: Start,
    scale: float,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> dict[str, StartingPoint]:
    """The starting point of each weight, whichever side of the cut it is on.

    Parameters
    ----------
    weights
        The adaptable weights of a half.
    updates
        The global update in canonical form; a weight that is missing has none yet.
    ranks
        How many directions are trained; 0 or missing trains none.
    start, scale
        As in :func:`~hsplit_flower.adapters.start.starting_point`.
    seed
        Source of fresh directions, together with the weight's name: a weight starts the same on
        either side of a cut.
    dtype
        Of the half's weights: what is coarser than float32 cannot take an update in without
        rounding it, so there the frozen part stays factored.
    """
    factored_below = None if dtype in (torch.float32, torch.float64) else sys.maxsize
    points = {}
    for weight in weights:
        update = updates.get(weight.name)
        if update is None:
            update = LowRank.zeros(weight.out_features, weight.in_features)
        if (update.out_features, update.in_features) != (weight.out_features, weight.in_features):
            raise AdapterError(
                f"the update of {weight.name!r} is for a weight of "
                f"[{update.out_features}, {update.in_features}], the model has "
                f"[{weight.out_features}, {weight.in_features}]"
            )
        points[weight.name] = starting_point(
            update,
            rank=ranks.get(weight.name, 0),
            start=start,
            scale=scale,
            generator=weight_generator(seed, weight.name),
            factored_below=factored_below,
        )
    return points


def weight_generator(seed: int, name: str) -> torch.Generator:
    """A generator of its own for each weight and seed, the same in every process.

    Torch's generator looks at the lower 32 bits of its seed only, so all of them are mixed.
    """
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
