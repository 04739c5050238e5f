"""Adapters come back from the wire."""

import pytest
import torch

from hsplit_flower.adapters import LowRank
from hsplit_flower.errors import AdapterError, CodecError
from hsplit_flower.wire.codec import encode
from hsplit_flower.wire.factors import SLICE_BYTES, factors_from_wire, factors_to_wire
from hsplit_flower.wire.proto.split_pb2 import Factors


@pytest.mark.parametrize("limit", [1, 300, 64 * 2**20])
def test_adapters_come_back_however_small_their_messages_must_be(limit: int) -> None:
    updates = {
        f"w.{rank}": LowRank(b=torch.randn(5, rank), a=torch.randn(rank, 3))
        for rank in (0, 1, 2, 3, 8)
    }
    messages = [m.SerializeToString() for m in factors_to_wire(updates, max_message_bytes=limit)]
    got = factors_from_wire(map(Factors.FromString, messages))
    assert list(got) == ["w.1", "w.2", "w.3", "w.8"]
    for name, update in got.items():
        assert torch.equal(update.b, updates[name].b)
        assert torch.equal(update.a, updates[name].a)
    # Of 8 numbers a rank, 32 bytes, five go into 300 bytes besides what a message needs itself.
    num_messages = {1: 14, 300: 5}.get(limit, 4)
    assert len(messages) == num_messages
    assert limit == 1 or max(map(len, messages)) <= limit
    assert factors_from_wire([]) == {}


def test_a_message_does_not_grow_with_the_rank() -> None:
    update = LowRank(b=torch.zeros(11008, 160), a=torch.zeros(160, 4096))
    messages = factors_to_wire({"up": update}, max_message_bytes=64 * 2**20)
    sizes = [message.ByteSize() for message in messages]
    assert max(sizes) <= SLICE_BYTES
    assert len(sizes) == 3


def factors(name: str, rank: int, out_features: int = 2) -> Factors:
    return Factors(
        weight=name, b=encode(torch.ones(out_features, rank)), a=encode(torch.ones(rank, 2))
    )


@pytest.mark.parametrize(
    ("messages", "error", "message"),
    [
        ([factors("w", 1), factors("v", 1), factors("w", 1)], CodecError, "'w' came in two places"),
        ([factors("w", 1), factors("w", 1, 3)], AdapterError, "updates of one weight"),
        ([factors("w", 1)] * 5, CodecError, "'w' have more than 4 ranks"),
    ],
)
def test_slices_that_do_not_make_a_whole_are_refused(
    messages: list[Factors], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        factors_from_wire(messages)


MATRIX = encode(torch.randn(2, 2))


@pytest.mark.parametrize(
    ("b", "a", "error"),
    [
        (encode(torch.randn(2)), MATRIX, CodecError),
        (MATRIX, encode(torch.ones(2, 2, dtype=torch.int32)), CodecError),
        (MATRIX, encode(torch.randn(3, 2)), AdapterError),
    ],
)
def test_what_are_no_factors_is_refused(b: object, a: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        factors_from_wire([Factors(weight="w", b=b, a=a)])
