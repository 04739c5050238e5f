"""Tensors as self-describing payloads, and back; everything that comes in is checked.

Law: ``decode(encode(x)) == x`` bit for bit in the payload's own type. bfloat16, which numpy lacks,
crosses as the same 16 bits. int8 alone is lossy: what it may lose is said in `quantise`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import CodecError
from ..types import WireType
from .int8 import dequantise, quantise
from .proto.split_pb2 import DataType, Payload

MAX_DIMENSIONS = 8
MAX_SIZE = 2**31
MAX_STRIDE = 2**62
SCALE_BYTES = 4

_TORCH_TYPES: dict[DataType, torch.dtype] = {
    DataType.DATA_TYPE_FLOAT32: torch.float32,
    DataType.DATA_TYPE_BFLOAT16: torch.bfloat16,
    DataType.DATA_TYPE_FLOAT16: torch.float16,
    DataType.DATA_TYPE_INT64: torch.int64,
    DataType.DATA_TYPE_INT32: torch.int32,
    DataType.DATA_TYPE_UINT8: torch.uint8,
}
_DATA_TYPES = {dtype: code for code, dtype in _TORCH_TYPES.items()}
# Bytes on the wire of what stands for other values than its own.
_STORED_TYPES = _TORCH_TYPES | {DataType.DATA_TYPE_INT8_ROWS: torch.int8}

FLOATING: dict[WireType, torch.dtype] = {
    WireType.FLOAT32: torch.float32,
    WireType.BFLOAT16: torch.bfloat16,
    WireType.FLOAT16: torch.float16,
}
"""The wire types that are types of tensors, too."""


def value_bytes(wire_type: WireType) -> int:
    """Bytes of one value of a hidden state; int8's scale, four bytes a token, is not in it."""
    return FLOATING[wire_type].itemsize if wire_type in FLOATING else 1


def encode(tensor: Tensor, wire_type: WireType | None = None) -> Payload:
    """A tensor of any shape as bytes that say what they are; see `encode_into`."""
    payload = Payload()
    encode_into(payload, tensor, wire_type)
    return payload


def encode_into(payload: Payload, tensor: Tensor, wire_type: WireType | None = None) -> None:
    """Fill a payload that lies in its message already, so that it need not be copied there.

    Parameters
    ----------
    payload
        An empty one.
    tensor
        On any device; a copy is made only where type or layout ask for it.
    wire_type
        What a floating-point tensor is turned into first; kept as it is by default.

    Raises
    ------
    CodecError
        If the tensor's type has no place on the wire.
    NonFiniteError
        If a tensor that is not finite is to be turned into int8.
    """
    tensor = tensor.detach()
    payload.shape.extend(tensor.shape)
    if wire_type is not None and tensor.is_floating_point():
        if wire_type is WireType.INT8:
            payload.data_type = DataType.DATA_TYPE_INT8_ROWS
            if tensor.numel():
                whole, scales = quantise(tensor.reshape(-1, _row_length(tensor.shape)))
                payload.data, payload.scales = _bytes_of(whole), _bytes_of(scales)
            return
        tensor = tensor.to(FLOATING[wire_type])
    if tensor.dtype not in _DATA_TYPES:
        raise CodecError(
            f"cannot send a tensor of {tensor.dtype}: "
            f"one of {sorted(str(dtype) for dtype in _DATA_TYPES)} is wanted"
        )
    payload.data_type = _DATA_TYPES[tensor.dtype]
    payload.data = _bytes_of(tensor)


CheckShape = Callable[[tuple[int, ...]], None]
"""Raises an error for a shape that is not wanted."""


def decode(payload: Payload, check_shape: CheckShape | None = None) -> Tensor:
    """The tensor that a payload says it is, on the CPU; int8 comes back as float32.

    Parameters
    ----------
    payload
        Somebody else's.
    check_shape
        Is asked about the shape before anything of its size is made.

    Raises
    ------
    CodecError
        If the type is unknown, or the bytes are not as many as type and shape need.
    """
    dtype = _STORED_TYPES.get(payload.data_type)
    if dtype is None:
        raise CodecError(f"unknown data type {payload.data_type} in a payload")
    # Counted in the message: as numbers of Python's they take many times what came.
    if (num_dimensions := len(payload.shape)) > MAX_DIMENSIONS:
        raise CodecError(
            f"a payload of {num_dimensions} dimensions: at most {MAX_DIMENSIONS} are allowed"
        )
    shape = tuple(payload.shape)
    data = payload.data
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != len(data):
        raise CodecError(
            f"a payload of shape {list(shape)} and {dtype} needs {wanted} bytes, got {len(data)}"
        )
    if check_shape is not None:
        check_shape(shape)
    # An empty tensor, too, has strides, which must be numbers of 64 bits.
    stride = math.prod(max(size, 1) for size in shape)
    if max(shape, default=0) > MAX_SIZE or stride > MAX_STRIDE:
        raise CodecError(
            f"a payload of shape {list(shape)}: at most {MAX_SIZE} in a dimension and {MAX_STRIDE} "
            "in all are allowed"
        )
    scales = _scales_of(payload, shape)
    if wanted == 0:
        return torch.empty(shape, dtype=torch.float32 if scales is not None else dtype)
    # One copy, because the message's bytes cannot be written to.
    tensor = torch.frombuffer(bytearray(data), dtype=dtype)
    if scales is not None:
        tensor = dequantise(tensor.reshape(-1, _row_length(shape)), scales)
    return tensor.reshape(shape)


def _scales_of(payload: Payload, shape: tuple[int, ...]) -> Tensor | None:
    """The scales of whole numbers that stand for others, one a row; None where there are none."""
    if payload.data_type == DataType.DATA_TYPE_INT8_ROWS:
        num_rows = math.prod(shape) // _row_length(shape) if math.prod(shape) else 0
    else:
        num_rows = 0
    if num_rows * SCALE_BYTES != len(payload.scales):
        raise CodecError(
            f"a payload of shape {list(shape)} needs {num_rows * SCALE_BYTES} bytes of scales, "
            f"got {len(payload.scales)}"
        )
    if payload.data_type != DataType.DATA_TYPE_INT8_ROWS:
        return None
    scales = torch.empty(0)
    if num_rows:
        scales = torch.frombuffer(bytearray(payload.scales), dtype=torch.float32)
    if not bool((scales.isfinite() & (scales >= 0)).all()):
        raise CodecError("the scales of a payload must be finite and zero or more")
    return scales


def _row_length(shape: "torch.Size | tuple[int, ...]") -> int:
    """Values that share a scale: those of the last dimension."""
    return shape[-1] if len(shape) else 1


def _bytes_of(tensor: Tensor) -> bytes:
    plain = tensor.cpu().contiguous()
    return plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b""
