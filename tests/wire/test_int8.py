"""What int8 on the wire may lose, and what it must not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hsplit_flower.errors import CodecError, NonFiniteError
from hsplit_flower.types import WireType
from hsplit_flower.wire.codec import decode, encode
from hsplit_flower.wire.int8 import LEVELS, dequantise, quantise
from hsplit_flower.wire.proto.split_pb2 import DataType, Payload

modest = settings(max_examples=200, deadline=None)
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
# float32's own rounding: relative to the row, and what is below its smallest number.
ROUNDING = 1e-4 / LEVELS
SMALLEST = LEVELS * 2.0**-149


@st.composite
def rows(draw: st.DrawFn) -> Tensor:
    """Rows of very different magnitudes, with zeros, down to subnormal numbers."""
    num_rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    dtype = draw(dtypes)
    largest = 30 if dtype is torch.float16 else 125
    exponents = draw(
        st.lists(st.integers(-149, largest // 2), min_size=num_rows, max_size=num_rows)
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    values = torch.randn(num_rows, width, generator=generator, dtype=torch.float64)
    values *= torch.rand(values.shape, generator=generator) > draw(st.floats(0, 1))
    values *= torch.tensor(exponents, dtype=torch.float64).exp2().unsqueeze(1)
    return values.clamp(-6e4, 6e4).to(dtype) if dtype is torch.float16 else values.to(dtype)


@modest
@given(rows())
def test_no_value_moves_by_more_than_half_a_level_of_its_row(values: Tensor) -> None:
    got = decode(encode(values, WireType.INT8))
    assert (got.dtype, got.shape) == (torch.float32, values.shape)
    largest = values.double().abs().amax(dim=1, keepdim=True)
    error = (got.double() - values.double()).abs()
    assert bool((error <= largest * (0.5 / LEVELS + ROUNDING) + SMALLEST).all())


@modest
@given(rows())
def test_zero_stays_zero_and_no_value_changes_its_sign(values: Tensor) -> None:
    got = decode(encode(values, WireType.INT8))
    assert bool((got[values == 0] == 0).all())
    assert bool((got.double() * values.double() >= 0).all())


@modest
@given(rows(), st.integers(0, 3))
def test_a_row_does_not_depend_on_the_others(values: Tensor, index: int) -> None:
    index %= len(values)
    alone = decode(encode(values[index], WireType.INT8))
    assert torch.equal(decode(encode(values, WireType.INT8))[index], alone)


@modest
@given(rows())
def test_what_was_rounded_once_stays_as_it_is(values: Tensor) -> None:
    """Rounding twice is rounding once, as far as float32 holds the scale."""
    whole, scales = quantise(values)
    again, _ = quantise(dequantise(whole, scales))
    is_normal = scales > 1e-30
    assert torch.equal(again[is_normal], whole[is_normal])


def test_the_largest_value_takes_the_last_level() -> None:
    whole, scales = quantise(torch.tensor([[0.0, -4.0, 2.0], [1e-3, 0.0, 5e-4]]))
    assert whole.tolist() == [[0, -127, 64], [127, 0, 64]]
    assert scales.tolist() == pytest.approx([4.0, 1e-3])


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4), (0, 4), (2, 0), (0,)])
def test_any_shape_comes_back(shape: tuple[int, ...]) -> None:
    values = torch.ones(shape)
    got = decode(Payload.FromString(encode(values, WireType.INT8).SerializeToString()))
    assert got.shape == values.shape
    torch.testing.assert_close(got, values)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    values = torch.ones(2, 3)
    values[1, 1] = value
    with pytest.raises(NonFiniteError, match="not finite"):
        encode(values, WireType.INT8)


def _payload(**changes: object) -> Payload:
    content = {
        "data_type": DataType.DATA_TYPE_INT8_ROWS,
        "shape": [2, 3],
        "data": bytes(6),
        "scales": torch.ones(2).numpy().tobytes(),
    }
    return Payload(**(content | changes))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (_payload(data=bytes(7)), "needs 6 bytes, got 7"),
        (_payload(scales=bytes(4)), r"shape \[2, 3\] needs 8 bytes of scales, got 4"),
        (_payload(scales=b""), "needs 8 bytes of scales, got 0"),
        (_payload(scales=torch.tensor([1.0, torch.nan]).numpy().tobytes()), "must be finite"),
        (_payload(scales=torch.tensor([1.0, -1.0]).numpy().tobytes()), "zero or more"),
    ],
)
def test_scales_that_cannot_be_are_refused(payload: Payload, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        decode(payload)
