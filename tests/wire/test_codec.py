"""Tensors come back bit for bit from payloads that say what they are; all others are refused."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hsplit_flower.errors import CodecError
from hsplit_flower.types import WireType
from hsplit_flower.wire.codec import (
    FLOATING,
    MAX_DIMENSIONS,
    MAX_SIZE,
    MAX_STRIDE,
    decode,
    encode,
    value_bytes,
)
from hsplit_flower.wire.proto.split_pb2 import DataType, Payload

TYPES = {
    torch.float32: DataType.DATA_TYPE_FLOAT32,
    torch.bfloat16: DataType.DATA_TYPE_BFLOAT16,
    torch.float16: DataType.DATA_TYPE_FLOAT16,
    torch.int64: DataType.DATA_TYPE_INT64,
    torch.int32: DataType.DATA_TYPE_INT32,
    torch.uint8: DataType.DATA_TYPE_UINT8,
}
shapes = st.lists(st.integers(0, 5), max_size=5).map(tuple)
modest = settings(max_examples=150, deadline=None)


def _any_bits(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """A tensor of random bits: subnormal numbers, infinities and every kind of NaN among them."""
    generator = torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel() * dtype.itemsize
    return (
        torch.randint(0, 256, (count,), dtype=torch.uint8, generator=generator)
        .view(dtype)
        .reshape(shape)
    )


def _bits(tensor: Tensor) -> bytes:
    return (
        bytes(tensor.contiguous().flatten().view(torch.uint8).tolist()) if tensor.numel() else b""
    )


def _over_the_wire(payload: Payload) -> Payload:
    return Payload.FromString(payload.SerializeToString())


@modest
@given(st.sampled_from(list(TYPES)), shapes, st.integers(0, 2**32 - 1))
def test_what_is_encoded_comes_back_bit_for_bit(
    dtype: torch.dtype, shape: tuple[int, ...], seed: int
) -> None:
    tensor = _any_bits(shape, dtype, seed)
    payload = encode(tensor)
    assert (payload.data_type, tuple(payload.shape)) == (TYPES[dtype], shape)
    got = decode(_over_the_wire(payload))
    assert (got.dtype, got.shape) == (dtype, tensor.shape)
    assert _bits(got) == _bits(tensor)


@modest
@given(st.sampled_from(list(FLOATING)), shapes, st.integers(0, 2**32 - 1))
def test_floating_point_is_turned_into_the_wire_type(
    wire_type: WireType, shape: tuple[int, ...], seed: int
) -> None:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    got = decode(encode(tensor, wire_type))
    assert got.dtype == FLOATING[wire_type]
    assert torch.equal(got, tensor.to(FLOATING[wire_type]))


def test_every_wire_type_has_a_tensor_type() -> None:
    assert FLOATING.keys() | {WireType.INT8} == set(WireType)
    others = {DataType.DATA_TYPE_UNSPECIFIED, DataType.DATA_TYPE_INT8_ROWS}
    assert set(TYPES.values()) | others == set(DataType.values())
    for wire_type in WireType:
        payload = encode(torch.ones(2, 3), wire_type)
        assert len(payload.data) == 6 * value_bytes(wire_type)


def test_whole_numbers_are_left_as_they_are() -> None:
    tensor = torch.tensor([2**40, -1])
    assert torch.equal(decode(encode(tensor, WireType.FLOAT16)), tensor)


@pytest.mark.parametrize(
    "view",
    [lambda t: t.T, lambda t: t[:, ::2], lambda t: t[1], lambda t: t.expand(2, 4, 6)],
    ids=["transposed", "strided", "row", "expanded"],
)
def test_views_are_sent_as_what_they_show(view: Any) -> None:
    tensor = view(torch.randn(4, 6))
    assert torch.equal(decode(encode(tensor)), tensor)


def test_the_graph_is_not_sent() -> None:
    tensor = torch.randn(3, requires_grad=True)
    got = decode(encode(tensor * 2))
    assert not got.requires_grad


def test_what_was_decoded_can_be_written_to_and_trained() -> None:
    got = decode(encode(torch.randn(3)))
    got.add_(1)
    got.requires_grad_().sum().backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bool, torch.complex64, torch.int16])
def test_a_type_without_a_place_on_the_wire_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(CodecError, match=rf"cannot send a tensor of {dtype}: one of .*bfloat16"):
        encode(torch.zeros(2, dtype=dtype))


def test_float64_can_be_sent_as_something_narrower() -> None:
    got = decode(encode(torch.full((2,), 0.5, dtype=torch.float64), WireType.FLOAT32))
    assert torch.equal(got, torch.full((2,), 0.5))


def _payload(**changes: Any) -> Payload:
    content = {"data_type": DataType.DATA_TYPE_FLOAT32, "shape": [2, 3], "data": bytes(24)}
    return _over_the_wire(Payload(**(content | changes)))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (_payload(data=bytes(23)), r"shape \[2, 3\] and torch.float32 needs 24 bytes, got 23"),
        (_payload(data=bytes(25)), "needs 24 bytes, got 25"),
        (_payload(data=b""), "needs 24 bytes, got 0"),
        (_payload(shape=[]), "needs 4 bytes, got 24"),
        (_payload(shape=[0, 5]), "needs 0 bytes, got 24"),
        (_payload(data_type=DataType.DATA_TYPE_UNSPECIFIED), "unknown data type 0"),
        (_payload(data_type=99), "unknown data type 99"),
        (_payload(shape=[1] * 9, data=bytes(4)), f"9 dimensions: at most {MAX_DIMENSIONS}"),
        (_payload(shape=[2**63, 2**63]), "bytes, got 24"),
        (_payload(shape=[2**63, 0], data=b""), f"at most {MAX_SIZE} in a dimension"),
        (_payload(shape=[0, *[2**30] * 3], data=b""), f"{MAX_STRIDE} in all"),
        (Payload(), "unknown data type 0"),
        (_payload(scales=bytes(8)), r"needs 0 bytes of scales, got 8"),
    ],
)
def test_a_payload_that_is_not_what_it_says_is_refused(payload: Payload, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        decode(payload)


@modest
@given(st.integers(-1, 9), st.lists(st.integers(0, 2**64 - 1), max_size=10), st.binary(max_size=64))
def test_any_payload_is_a_tensor_or_refused(code: int, shape: list[int], data: bytes) -> None:
    try:
        got = decode(Payload(data_type=code, shape=shape, data=data))
    except CodecError:
        return
    assert list(got.shape) == shape
    assert got.nbytes == len(data)


@modest
@given(st.lists(st.integers(0, 5), max_size=3), st.binary(max_size=64), st.binary(max_size=20))
def test_any_int8_payload_is_a_finite_tensor_or_refused(
    shape: list[int], data: bytes, scales: bytes
) -> None:
    code = DataType.DATA_TYPE_INT8_ROWS
    try:
        got = decode(Payload(data_type=code, shape=shape, data=data, scales=scales))
    except CodecError:
        return
    assert list(got.shape) == shape
    assert got.numel() == len(data)
    assert bool(got.isfinite().all())
