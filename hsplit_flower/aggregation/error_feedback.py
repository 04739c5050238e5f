"""A global adapter of bounded size: the head of an exact sum, whose rest is not lost.

What all clients together add is of a higher rank in every round. Sent is what fits; what does not
is kept on the server and is in the sum from which the next head is taken (error feedback: Seide et
al. 2014; Karimireddy et al. 2019, arXiv 1901.09847). The head is rounded to what it is sent in, and
the rounding is kept in the same way, so that sent and kept together are always the exact sum.
"""

from collections.abc import Mapping

import torch

from ..adapters.low_rank import LowRank
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


def held_back_share(sums: Mapping[str, UpdateSum], updates: Mapping[str, LowRank]) -> float:
    """``Σ ‖ΔW − sent‖² / Σ ‖ΔW‖²``: how much of what was learnt is not sent; 0 if nothing was."""
    whole = sum((total.squared_norm() for total in sums.values()), 0.0)
    sent = sum(
        (
            2 * total.inner_product(updates[name]) - UpdateSum(content=updates[name]).squared_norm()
            for name, total in sums.items()
        ),
        0.0,
    )
    return max(0.0, 1.0 - sent / whole) if whole else 0.0


def _rounded(update: LowRank, dtype: AdapterType) -> LowRank:
    """The nearest factors that the type has; what lies beyond it becomes its largest number."""
    if dtype is AdapterType.FLOAT32:
        return update
    largest = torch.finfo(torch.float16).max
    b, a = (
        factor.clamp(-largest, largest).to(torch.float16).float() for factor in (update.b, update.a)
    )
    return LowRank(b=b, a=a)
