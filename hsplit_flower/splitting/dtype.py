"""A type of numbers by its name."""

import torch

from ..errors import ConfigError


def floating_dtype(name: str) -> torch.dtype:
    """The floating-point type that torch calls so.

    Raises
    ------
    ConfigError
        If there is none.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ConfigError(f"dtype is {name!r}: a floating-point type of torch is wanted")
    return dtype
