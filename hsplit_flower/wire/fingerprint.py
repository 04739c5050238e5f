"""A number that tells two requests apart, so that one which comes again is known by its content."""

from collections.abc import Iterable, Mapping

import torch
import xxhash
from torch import Tensor

from ..adapters import LowRank
from ..errors import AdapterError


def fingerprint_of(values: object, tensors: Iterable[Tensor | None]) -> int:
    """XXH3 of plain values and of the bytes of tensors, in their order.

    Every request is read for it once more, at the speed of memory. It is no secret and keeps nobody
    from anything: a client that makes two requests of one fingerprint gets the first one's reply
    twice, in its own session.
    """
    digest = xxhash.xxh3_64(repr(values).encode())
    for tensor in tensors:
        if tensor is None:
            continue
        plain = tensor.detach().cpu().contiguous()
        digest.update(repr((plain.dtype, tuple(plain.shape))).encode())
        if plain.numel():
            digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.intdigest()


def fingerprint_of_updates(updates: Mapping[str, LowRank]) -> str:
    """A short text that is the same for one adapter wherever it is read; empty for none."""
    if not updates:
        return ""
    names = sorted(updates)
    factors = (factor for name in names for factor in (updates[name].b, updates[name].a))
    return f"{fingerprint_of(names, factors):016x}"


def check_same_adapter(of_worker: str, of_device: str, *, worker: str = "the worker") -> None:
    """Refuse to write with parts of two adapters, each told by its fingerprint.

    Raises
    ------
    AdapterError
        Naming both, and the worker as whoever reads it is to know it.
    """
    if of_worker != of_device:
        raise AdapterError(
            f"{worker} has {_named(of_worker)}, and this device {_named(of_device)}: the same "
            "adapter is wanted on both sides (hsplit worker --adapter)"
        )


def _named(adapter: str) -> str:
    return f"the adapter {adapter}" if adapter else "no adapter"
