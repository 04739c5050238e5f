"""A few numbers of an update, by which it is compared with another one that is not there.

Each is ``uᵀ ΔW v`` with random signs ``u`` and ``v``, so that the squared size of a difference is
the mean of the squared differences of such numbers. Unlike a checksum they stay nearly what they
are where a file rounds an adapter, or shares its factors out otherwise.
"""

import hashlib
import math
from collections.abc import Mapping

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

from .low_rank import LowRank

PER_WEIGHT = 4
Sketch = Mapping[str, tuple[float, ...]]
"""By weight, `PER_WEIGHT` numbers each; zeros where there is no update."""


def sketch_of(name: str, update: LowRank | None) -> tuple[float, ...]:
    """The numbers of one weight's update, the same on every machine and in every release."""
    if update is None or not update.rank:
        return (0.0,) * PER_WEIGHT
    u, v = _signs(f"{name}/out", update.out_features), _signs(f"{name}/in", update.in_features)
    b, a = update.b.detach().cpu().double(), update.a.detach().cpu().double()
    numbers: list[float] = ((u @ b) * (v @ a.T)).sum(dim=1).tolist()
    return tuple(numbers)


def relative_difference(wanted: Sketch, got: Sketch) -> float:
    """How far ``got`` is from ``wanted``, as a share of the size of ``wanted``, about.

    0 where both are nothing, infinite where ``wanted`` alone is. Both are of the same weights.
    """
    size = math.hypot(*(number for each in wanted.values() for number in each))
    far = math.hypot(
        *(
            one - other
            for name, each in wanted.items()
            for one, other in zip(each, got[name], strict=True)
        )
    )
    if not size:
        return math.inf if far else 0.0
    return far / size


def _signs(seed: str, length: int) -> Float[Tensor, "numbers length"]:
    """Rows of ±1 that follow from a text alone."""
    num_bytes = -(-length // 8)
    drawn = hashlib.shake_256(seed.encode()).digest(PER_WEIGHT * num_bytes)
    bits = numpy.unpackbits(numpy.frombuffer(drawn, dtype=numpy.uint8))
    rows = torch.from_numpy(bits.reshape(PER_WEIGHT, -1)[:, :length].copy())
    return 2.0 * rows.double() - 1.0
