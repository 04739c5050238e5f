"""Tensors as self-describing payloads, and back; everything that comes in is checked.

Law: ``decode(encode(x)) == x`` bit for bit in the payload's own type. bfloat16, which numpy lacks,
crosses as the same 16 bits.
"""

import math

import torch
from torch import Tensor

from ..errors import CodecError
from ..types import WireType
from .split_pb2 import DataType, Payload

MAX_DIMENSIONS = 8
MAX_SIZE = 2**31

_TORCH_TYPES: dict[DataType, torch.dtype] = {
    DataType.DATA_TYPE_FLOAT32: torch.float32,
    DataType.DATA_TYPE_BFLOAT16: torch.bfloat16,
    DataType.DATA_TYPE_FLOAT16: torch.float16,
    DataType.DATA_TYPE_INT64: torch.int64,
    DataType.DATA_TYPE_INT32: torch.int32,
    DataType.DATA_TYPE_UINT8: torch.uint8,
}
_DATA_TYPES = {dtype: code for code, dtype in _TORCH_TYPES.items()}

FLOATING: dict[WireType, torch.dtype] = {
    WireType.FLOAT32: torch.float32,
    WireType.BFLOAT16: torch.bfloat16,
    WireType.FLOAT16: torch.float16,
}


def encode(tensor: Tensor, wire_type: WireType | None = None) -> Payload:
    """A tensor of any shape as bytes that say what they are.

    Parameters
    ----------
    tensor
        On any device; a copy is made only where type or layout ask for it.
    wire_type
        What a floating-point tensor is turned into first; kept as it is by default.

    Raises
    ------
    CodecError
        If the tensor's type has no place on the wire.
    """
    tensor = tensor.detach()
    if wire_type is not None and tensor.is_floating_point():
        tensor = tensor.to(FLOATING[wire_type])
    if tensor.dtype not in _DATA_TYPES:
        raise CodecError(
            f"cannot send a tensor of {tensor.dtype}: "
            f"one of {sorted(str(dtype) for dtype in _DATA_TYPES)} is wanted"
        )
    plain = tensor.cpu().contiguous()
    raw = plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return Payload(data_type=_DATA_TYPES[tensor.dtype], shape=list(tensor.shape), data=raw)


def decode(payload: Payload) -> Tensor:
    """The tensor that a payload says it is, on the CPU.

    Raises
    ------
    CodecError
        If the type is unknown, or the bytes are not as many as type and shape need.
    """
    dtype = _TORCH_TYPES.get(payload.data_type)
    if dtype is None:
        raise CodecError(f"unknown data type {payload.data_type} in a payload")
    shape = tuple(payload.shape)
    if len(shape) > MAX_DIMENSIONS:
        raise CodecError(
            f"a payload of {len(shape)} dimensions: at most {MAX_DIMENSIONS} are allowed"
        )
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != len(payload.data):
        raise CodecError(
            f"a payload of shape {list(shape)} and {dtype} needs {wanted} bytes, "
            f"got {len(payload.data)}"
        )
    if max(shape, default=0) > MAX_SIZE:
        raise CodecError(f"a payload of shape {list(shape)}: at most {MAX_SIZE} in a dimension")
    if wanted == 0:
        return torch.empty(shape, dtype=dtype)
    # One copy, because the message's bytes cannot be written to.
    return torch.frombuffer(bytearray(payload.data), dtype=dtype).reshape(shape)
