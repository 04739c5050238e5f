"""What users put into a batch, as tensors of whole numbers: whatever type, list or tuple it is."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ..errors import DataError


def whole_numbers(name: str, value: Any) -> Int[Tensor, "..."]:
    """A field of a batch in int64.

    Parameters
    ----------
    name
        Of the field, for words.
    value
        A tensor, an array, or lists or tuples of numbers or of arrays.

    Raises
    ------
    DataError
        If there are other things in it than whole numbers, or rows of several lengths.
    """
    if isinstance(value, (list, tuple)) and any(_is_row(each) for each in value):
        raise DataError(
            f"{name} is a list of tensors, which may be rows or, as PyTorch's default collation "
            "makes them of lists, columns: torch.stack them into one of shape [batch, seq]"
        )
    try:
        tensor = value if isinstance(value, Tensor) else _from_array(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(f"{name} is no array of whole numbers: {error}") from error
    if tensor.is_floating_point() or tensor.is_complex():
        raise DataError(
            f"{name} has shape {list(tensor.shape)} and {tensor.dtype}: whole numbers are wanted"
        )
    return tensor.detach().long()


def _is_row(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _from_array(value: Any) -> Tensor:
    array = np.asarray(value)
    # Torch has no numbers of another order of bytes than the machine's.
    return torch.as_tensor(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))
