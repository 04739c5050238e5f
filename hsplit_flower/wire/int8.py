"""Hidden states as whole numbers from -127 to 127, with one scale a token.

The scale is the largest magnitude in the row, so it differs from token to token: a few tokens of a
language model are a hundred times larger than the others, and must not cost those their digits.
"""

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from ..errors import NonFiniteError

LEVELS = 127


def quantise(
    values: Float[Tensor, "*tokens hidden"],
) -> tuple[Int8[Tensor, "*tokens hidden"], Float[Tensor, "*tokens"]]:
    """Whole numbers ``q = round(127 x / s)`` and the scales ``s = max |x|`` of each row.

    Zero stays zero, and no value moves by more than ``s / 254`` (and float32's rounding).

    Raises
    ------
    NonFiniteError
        If a value is NaN or infinite: no scale could hold it.
    """
    smallest, largest = values.float().aminmax(dim=-1)
    scales = torch.maximum(largest, -smallest)
    if not bool(scales.isfinite().all()):
        raise NonFiniteError("a tensor that is not finite cannot be sent as int8")
    # A row of zeros has nothing to divide by; any number other than zero leaves it as it is.
    divisors = torch.where(scales > 0, scales, 1.0)
    # Divided first: 127 / s is beyond float32 where s is next to nothing.
    ratios = values.float() / divisors.unsqueeze(-1)
    return ratios.mul_(LEVELS).round_().to(torch.int8), scales


def dequantise(
    whole: Int8[Tensor, "*tokens hidden"], scales: Float[Tensor, "*tokens"]
) -> Float[Tensor, "*tokens hidden"]:
    """What the whole numbers stand for: ``q s / 127``, in float32."""
    return whole.float().mul_((scales / LEVELS).unsqueeze(-1))
