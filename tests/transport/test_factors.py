"""Adapters and session settings come back from the wire."""

from dataclasses import fields, replace

import pytest
import torch

from hsplit_flower.adapters import LowRank
from hsplit_flower.errors import AdapterError, CodecError
from hsplit_flower.transport.codec import encode
from hsplit_flower.transport.factors import (
    factors_from_wire,
    factors_to_wire,
    spec_from_wire,
    spec_to_wire,
)
from hsplit_flower.transport.split_pb2 import Factors
from hsplit_flower.transport.split_pb2 import SessionSpec as SpecMessage
from hsplit_flower.types import Labels, SessionSpec, Start, WireType

SPEC = SessionSpec(
    client=2**63,
    cut=3,
    ranks={"a.0": 4, "b.1": 0},
    labels=Labels.CLIENT,
    start=Start.RESTART,
    scale=0.1,
    learning_rate=1e-5,
    weight_decay=0.3,
    seed=2**63 + 1,
    wire_type=WireType.BFLOAT16,
    wire_gradient_type=WireType.INT8,
    in_flight=7,
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
        {"scale": 0.0},
        {"in_flight": 0},
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


def test_every_weight_is_a_message_of_its_own_and_comes_back() -> None:
    updates = {
        f"w.{rank}": LowRank(b=torch.randn(5, rank), a=torch.randn(rank, 3)) for rank in range(4)
    }
    messages = list(factors_to_wire(updates))
    assert [message.weight for message in messages] == ["w.1", "w.2", "w.3"]
    got = factors_from_wire(Factors.FromString(m.SerializeToString()) for m in messages)
    for name, update in got.items():
        assert torch.equal(update.b, updates[name].b)
        assert torch.equal(update.a, updates[name].a)
    assert factors_from_wire([]) == {}


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
