"""A global adapter of bounded size: the head of an exact sum, whose rest is not lost.

What all clients together add is of a higher rank in every round. Sent is what fits; what does not
is kept on the server and is in the sum from which the next head is taken (error feedback: Seide et
al. 2014; Karimireddy et al. 2019, arXiv 1901.09847). The head is rounded to what it is sent in, and
the rounding is kept in the same way, so that sent and kept together are always the exact sum.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..adapters.low_rank import LowRank, saturated
from ..adapters.truncation import ranks_within
from ..adapters.update_sum import UpdateSum
from ..settings import Aggregation
from ..types import AdapterType

_WIDEST = 4
"""Without a cap no weight gets more than so many times the mean: to look for more takes longer."""


def head_of(
    sums: Mapping[str, UpdateSum], options: Aggregation, *, near: Mapping[str, LowRank]
) -> dict[str, LowRank]:
    """What of the sums is sent: the directions that hold most for their bytes.

    Parameters
    ----------
    sums
        All that was learnt, of every weight.
    options
        Its ``mean_rank`` says what fits, its ``largest_rank`` what one weight gets at most, its
        ``adapter_dtype`` what factors are rounded to.
    near
        What was sent before: where the search for leading directions begins.
    """
    widest = options.largest_rank or _WIDEST * options.mean_rank
    leading = {name: total.leading(widest, near=near.get(name)) for name, total in sums.items()}
    ranks = ranks_within(leading, options.mean_rank)
    dtype = options.adapter_dtype
    return {name: _rounded(head.head(ranks[name]), dtype) for name, head in leading.items()}


@dataclass(frozen=True, kw_only=True)
class BoundedAdapter:
    """What of all that was learnt is sent, kept for later, and given up.

    Attributes
    ----------
    updates
        What is sent of every weight.
    sums
        All that was learnt of each weight of which something is kept.
    held_back_share, dropped_share
        How much of ``Σ ‖ΔW‖²`` is kept and not sent, and how much is neither.
    """

    updates: Mapping[str, LowRank]
    sums: Mapping[str, UpdateSum]
    held_back_share: float
    dropped_share: float


def bounded(
    sums: Mapping[str, UpdateSum], options: Aggregation, *, near: Mapping[str, LowRank]
) -> BoundedAdapter:
    """The adapter of bounded size that these sums give, and what is kept beside it.

    Parameters
    ----------
    sums, options, near
        As in `head_of`. Where the rest of a weight is at most ``options.drop_below`` of it, what is
        sent is all that is known of that weight from then on.
    """
    updates = head_of(sums, options, near=near)
    whole = {name: total.squared_norm() for name, total in sums.items()}
    rest = {
        name: max(0.0, whole[name] - total.explained_by(updates[name]))
        for name, total in sums.items()
    }
    # Never by rounding alone: without a limit, all is kept.
    dropped = {
        name
        for name in sums
        if options.drop_below and rest[name] <= options.drop_below * whole[name]
    }
    total = sum(whole.values()) or 1.0
    return BoundedAdapter(
        updates=updates,
        sums={name: each for name, each in sums.items() if name not in dropped},
        held_back_share=sum(rest[name] for name in sums if name not in dropped) / total,
        dropped_share=sum(rest[name] for name in dropped) / total,
    )


def _rounded(update: LowRank, dtype: AdapterType) -> LowRank:
    if dtype is AdapterType.FLOAT32:
        return update
    b, a = (saturated(factor, torch.float16).float() for factor in (update.b, update.a))
    return LowRank(b=b, a=a)
