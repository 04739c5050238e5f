"""How long each client's change is against the others', and what of it is kept.

The norm of a sum of clients that are within a bound is within it too, whatever any of them sends
(norm bounding: Sun et al. 2019, arXiv 1911.07963). The bound is a multiple of the median of the
round, so nobody has to know beforehand how long a change is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

ENOUGH_TO_JUDGE = 3
"""Of two that differ nobody can say which is wrong."""


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """One client's change against those of its round.

    Attributes
    ----------
    where
        The weight, or the block of them, in which it is the longest against the median.
    multiple
        How many times the median it is there; 1 where nothing was compared.
    kept
        Which share of its change is used, by weight; all of it where a weight is missing.
    is_refused
        Whether none of it is.
    """

    where: str = ""
    multiple: float = 1.0
    kept: Mapping[str, float] = field(default_factory=dict)
    is_refused: bool = False

    @property
    def least_kept(self) -> float:
        """The smallest share that is used of any weight."""
        return min(self.kept.values(), default=1.0)


def lower_median(values: Iterable[float]) -> float:
    """The middle value, of an even number the lower one: at least half are as large or larger."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def proportions(
    weights: Mapping[int, Mapping[str, float]],
    blocks: Mapping[int, Mapping[str, float]],
    *,
    clip_above: float,
    refuse_above: float,
) -> dict[int, Proportion]:
    """What each client's change is in proportion to the others'.

    Parameters
    ----------
    weights, blocks
        Norms by client and weight, and by client and block of weights.
    clip_above
        Times the median of a weight, to which longer changes are shortened; 0 shortens nothing.
    refuse_above
        Times the median of a block, beyond which a client is refused if three or more can be
        compared; 0 refuses nobody.
    """
    of_weights, of_blocks = _multiples(weights), _multiples(blocks)
    compared = {
        block
        for block, each in _by_name(blocks).items()
        if refuse_above and len(each) >= ENOUGH_TO_JUDGE
    }
    found = {}
    for client in weights:
        own, whole = of_weights[client], of_blocks[client]
        refused = {n: m for n, m in whole.items() if n in compared and m > refuse_above}
        where = _largest(refused or own)
        found[client] = Proportion(
            where=where,
            multiple=(refused or own).get(where, 1.0),
            kept={n: clip_above / m for n, m in own.items() if clip_above and m > clip_above},
            is_refused=bool(refused),
        )
    return found


def limited(values: Mapping[int, Mapping[str, float]], above: float) -> dict[int, dict[str, float]]:
    """The same, none more than so many times the median of those that name it; 0 is no limit."""
    medians = {name: lower_median(each.values()) for name, each in _by_name(values).items()}
    return {
        client: {
            name: min(value, above * medians[name]) if above and medians[name] else value
            for name, value in own.items()
        }
        for client, own in values.items()
    }


def _multiples(norms: Mapping[int, Mapping[str, float]]) -> dict[int, dict[str, float]]:
    """Times the median, by client and name; not where one client alone has it.

    Nor where the median is no change at all: nothing is a multiple of that.
    """
    found: dict[int, dict[str, float]] = {client: {} for client in norms}
    for name, each in _by_name(norms).items():
        median = lower_median(each.values())
        if len(each) > 1 and median > 0:
            for client, norm in each.items():
                found[client][name] = norm / median
    return found


def _largest(values: Mapping[str, float]) -> str:
    return max(values, key=lambda name: values[name], default="")


def _by_name(values: Mapping[int, Mapping[str, float]]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for client, own in values.items():
        for name, value in own.items():
            found.setdefault(name, {})[client] = value
    return found
