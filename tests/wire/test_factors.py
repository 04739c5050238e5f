"""Adapters and session settings come back from the wire."""

from dataclasses import fields, replace

import pytest
import torch

from hsplit_flower.adapters import LowRank
from hsplit_flower.errors import AdapterError, CodecError
from hsplit_flower.types import (
    LONGEST_ROUND_SECONDS,
    Labels,
    ScaleRule,
    SessionSpec,
    Start,
    WireType,
)
from hsplit_flower.wire.codec import encode
from hsplit_flower.wire.factors import (
    SLICE_BYTES,
    factors_from_wire,
    factors_to_wire,
    spec_from_wire,
    spec_to_wire,
)
from hsplit_flower.wire.proto.split_pb2 import Factors
from hsplit_flower.wire.proto.split_pb2 import SessionSpec as SpecMessage

SPEC = SessionSpec(
    client=2**63,
    cut=3,
    ranks={"a.0": 4, "b.1": 0},
    labels=Labels.CLIENT,
    start=Start.RESTART,
    lora_alpha=0.1,
    scale_rule=ScaleRule.RSLORA,
    learning_rate=1e-5,
    weight_decay=0.3,
    seed=2**63 + 1,
    wire_type=WireType.BFLOAT16,
    wire_gradient_type=WireType.INT8,
    in_flight=7,
    round_timeout_seconds=90.5,
    max_tokens=2**40,
    train=False,
)


def test_settings_come_back() -> None:
    default = SessionSpec(client=0, cut=1)
    for field in fields(SessionSpec):
        assert getattr(SPEC, field.name) != getattr(default, field.name), "the example is too plain"
    for spec in (SPEC, default):
        assert (
            spec_from_wire(SpecMessage.FromString(spec_to_wire(spec).SerializeToString())) == spec
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": "nowhere"},
        {"start": ""},
        {"wire_type": "float8"},
        {"wire_gradient_type": "float8"},
        {"lora_alpha": 0.0},
        {"scale_rule": "none"},
        {"in_flight": 0},
        {"round_timeout_seconds": 0.0},
        {"round_timeout_seconds": float("inf")},
        {"round_timeout_seconds": 1.01 * LONGEST_ROUND_SECONDS},
        {"max_tokens": 0},
        {"learning_rate": float("nan")},
        {"weight_decay": -1.0},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object]) -> None:
    message = spec_to_wire(SPEC)
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(CodecError, match="a session cannot be opened like this"):
        spec_from_wire(message)


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


def test_settings_with_a_rank_below_zero_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="ranks must be zero or more"):
        replace(SPEC, ranks={"a": -1})
