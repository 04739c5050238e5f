"""Where every weight of a half starts a round, from the global update and one seed."""

import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping

import torch

from ..errors import AdapterError
from ..types import Scaling, Start, Weight
from .low_rank import LowRank
from .start import StartingPoint, is_merged, starting_point


def starting_points(
    weights: Iterable[Weight],
    updates: Mapping[str, LowRank],
    ranks: Mapping[str, int],
    *,
    start: Start,
    scaling: Scaling,
    seed: int,
    dtype: torch.dtype = torch.float32,
    merges: bool = False,
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
    start
        As in :func:`~hsplit_flower.adapters.start.starting_point`.
    scaling
        What the layers multiply the trainable products by.
    seed
        Source of fresh directions, together with the weight's name: a weight starts the same on
        either side of a cut.
    dtype
        Of the half's weights.
    merges
        Whether every update goes into its weight, whatever its rank and the dtype.
    """
    return dict(
        take_starting_points(
            weights,
            dict(updates),
            ranks,
            start=start,
            scaling=scaling,
            seed=seed,
            dtype=dtype,
            merges=merges,
        )
    )


def take_starting_points(
    weights: Iterable[Weight],
    updates: dict[str, LowRank],
    ranks: Mapping[str, int],
    *,
    start: Start,
    scaling: Scaling,
    seed: int,
    dtype: torch.dtype = torch.float32,
    merges: bool = False,
) -> Iterator[tuple[str, StartingPoint]]:
    """The same one after another, each update taken out of ``updates`` when its turn comes.

    Those that go into the weights come first: who attaches a point before asking for the next one
    never holds more than the whole update and one weight's factors.
    """
    by_name = {weight.name: weight for weight in weights}
    for name in by_name.keys() & updates.keys():
        _check_shape(by_name[name], updates[name])
    first = merged_names(by_name.values(), updates, dtype, merges=merges)
    for name in sorted(by_name, key=lambda name: name not in first):
        weight = by_name[name]
        rank = ranks.get(name, 0)
        none_yet = LowRank.zeros(weight.out_features, weight.in_features)
        # Not named here, where it would be held while the next one is made.
        yield (
            name,
            starting_point(
                updates.pop(name, none_yet),
                rank=rank,
                start=start,
                scale=scaling.of(rank),
                generator=weight_generator(seed, name),
                factored_below=_factored_below(dtype, merges=merges),
            ),
        )


def merged_names(
    weights: Iterable[Weight],
    updates: Mapping[str, LowRank],
    dtype: torch.dtype,
    *,
    merges: bool = False,
) -> set[str]:
    """Into which weights, held in this dtype, their update goes instead of staying factored."""
    names = {weight.name for weight in weights} & updates.keys()
    below = _factored_below(dtype, merges=merges)
    return {name for name in names if is_merged(updates[name], below)}


def weight_generator(seed: int, name: str) -> torch.Generator:
    """A generator of its own for each weight and seed, the same in every process.

    Torch's generator looks at the lower 32 bits of its seed only, so all of them are mixed.
    """
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))


def _check_shape(weight: Weight, update: LowRank) -> None:
    wanted = (weight.out_features, weight.in_features)
    if (update.out_features, update.in_features) != wanted:
        raise AdapterError(
            f"the update of {weight.name!r} is for a weight of "
            f"[{update.out_features}, {update.in_features}], the model has {list(wanted)}"
        )


def _factored_below(dtype: torch.dtype, *, merges: bool) -> int | None:
    """What is coarser than float32 cannot take an update in without rounding it: never there."""
    if merges:
        return 1
    return None if dtype in (torch.float32, torch.float64) else sys.maxsize
