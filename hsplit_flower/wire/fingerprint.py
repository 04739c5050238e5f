"""A number that tells two requests apart, so that one which comes again is known by its content."""

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor


def fingerprint_of(values: object, tensors: Iterable[Tensor | None]) -> int:
    """CRC-32 of plain values and of the bytes of tensors, in their order.

    It is no secret and keeps nobody from anything: a client that makes two requests of one
    fingerprint gets the first one's reply twice, in its own session.
    """
    checksum = zlib.crc32(repr(values).encode())
    for tensor in tensors:
        if tensor is None:
            continue
        plain = tensor.detach().cpu().contiguous()
        checksum = zlib.crc32(repr((plain.dtype, tuple(plain.shape))).encode(), checksum)
        if plain.numel():
            checksum = zlib.crc32(plain.flatten().view(torch.uint8).numpy().data, checksum)
    return checksum
