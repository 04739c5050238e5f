"""Requests and replies come back from the wire; a message that holds something else is refused."""

import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hsplit_flower.errors import CodecError
from hsplit_flower.types import WireType
from hsplit_flower.wire.codec import FLOATING, encode
from hsplit_flower.wire.messages import (
    Backward,
    Forward,
    Gradient,
    LastHidden,
    Loss,
    Reply,
    Request,
    Settle,
    Settled,
    reply_from_wire,
    reply_to_wire,
    request_from_wire,
    request_to_wire,
)
from hsplit_flower.wire.next_tokens import Extend, NextTokens
from hsplit_flower.wire.proto.split_pb2 import DataType, Payload, StepReply, StepRequest
from tests.families import fields as batch_fields
from tests.families import packed

BATCH, SEQ, WIDTH = 3, 9, 4
HIDDEN = torch.randn(BATCH, SEQ, WIDTH, generator=torch.Generator().manual_seed(0))
LABELS = batch_fields("right")["labels"]
POSITIONS = packed()["position_ids"]
FULL = torch.ones_like(POSITIONS)
LEFT = batch_fields("left")["attention_mask"]


def _same(got: object, wanted: object) -> bool:
    """Whether two messages hold the same."""
    if type(got) is not type(wanted):
        return False
    for field in fields(wanted):
        a, b = getattr(got, field.name), getattr(wanted, field.name)
        if isinstance(b, Tensor):
            if not (isinstance(a, Tensor) and a.dtype == b.dtype and torch.equal(a, b)):
                return False
        elif a != b:
            return False
    return True


def _wire(request: Request) -> StepRequest:
    return StepRequest.FromString(request_to_wire(request, WireType.FLOAT32).SerializeToString())


REQUESTS = [
    Forward(step=1, hidden=HIDDEN),
    Forward(step=2, hidden=HIDDEN, labels=LABELS, probe=True),
    Forward(step=3, hidden=HIDDEN, labels=LABELS, train=False),
    Forward(step=4, hidden=HIDDEN, micro_batch=2, num_micro_batches=5, total_tokens=2**33),
    Forward(step=5, hidden=HIDDEN, position_ids=POSITIONS),
    Forward(step=6, hidden=HIDDEN, position_ids=POSITIONS, attention_mask=FULL),
    Forward(step=7, hidden=HIDDEN, earlier_squared_norm=1e70),
    Settle(step=9, squared_norm=0.0),
    Extend(step=1, hidden=HIDDEN, attention_mask=LEFT, begins=True, num_choices=7),
    Extend(step=2, hidden=HIDDEN[:, :1], parents=torch.tensor([2, 0, 0])),
    Backward(step=2**40, gradient=HIDDEN),
    Backward(step=4, gradient=HIDDEN, micro_batch=4, num_micro_batches=5),
]
REPLIES = [
    Loss(step=1, loss_sum=-0.1, num_tokens=7),
    Loss(step=2, loss_sum=1e300, num_tokens=2**40, gradient=HIDDEN),
    LastHidden(step=3, hidden=HIDDEN),
    Gradient(step=4, gradient=HIDDEN),
    Loss(step=5, loss_sum=0.0, num_tokens=0, micro_batch=1),
    LastHidden(step=5, hidden=HIDDEN, micro_batch=2),
    Gradient(step=5, gradient=HIDDEN, micro_batch=3),
    Gradient(step=5, gradient=HIDDEN, squared_norm=1e-70),
    Loss(step=6, loss_sum=1.0, num_tokens=1, squared_norm=2.5),
    Settled(step=7),
    NextTokens(step=6, logits=HIDDEN[:, 0], tokens=LABELS[:, :WIDTH], log_sum=HIDDEN[:, 0, 0]),
    NextTokens(step=7, logits=HIDDEN[:, 0], tokens=None, log_sum=HIDDEN[:, 0, 0]),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_requests_come_back(request_: Request) -> None:
    assert _same(request_from_wire(_wire(request_)), request_)


def test_a_client_that_does_not_say_sends_one_micro_batch() -> None:
    message = _wire(REQUESTS[0])
    message.ClearField("num_micro_batches")
    assert request_from_wire(message).num_micro_batches == 1


@pytest.mark.parametrize("reply", REPLIES)
def test_replies_come_back(reply: Reply) -> None:
    message = reply_to_wire(reply, WireType.FLOAT32)
    assert _same(reply_from_wire(StepReply.FromString(message.SerializeToString())), reply)


@pytest.mark.parametrize("wire_type", FLOATING)
def test_states_and_gradients_are_of_the_wire_type(wire_type: WireType) -> None:
    dtype = FLOATING[wire_type]
    forward = request_from_wire(request_to_wire(REQUESTS[1], wire_type))
    assert (forward.hidden.dtype, forward.labels.dtype) == (dtype, torch.int64)
    assert request_from_wire(request_to_wire(REQUESTS[-1], wire_type)).gradient.dtype == dtype
    for reply in REPLIES[1:4]:
        got = reply_from_wire(reply_to_wire(reply, wire_type))
        tensor = got.hidden if isinstance(got, LastHidden) else got.gradient
        assert tensor.dtype == dtype


def _types_in(message: StepRequest | StepReply) -> dict[str, DataType]:
    """The type of each payload, by where it lies."""
    found = {}
    for field, content in message.ListFields():
        if isinstance(content, Payload):
            found[field.name] = content.data_type
        elif hasattr(content, "ListFields"):
            found |= {f"{field.name}.{name}": kind for name, kind in _types_in(content).items()}
    return found


def test_gradients_may_have_a_type_of_their_own() -> None:
    mixed = WireType.INT8, WireType.BFLOAT16
    int8, bfloat16 = DataType.DATA_TYPE_INT8_ROWS, DataType.DATA_TYPE_BFLOAT16
    forward, backward = Forward(step=1, hidden=HIDDEN), Backward(step=1, gradient=HIDDEN)
    assert _types_in(request_to_wire(forward, *mixed)) == {"forward.hidden": int8}
    assert _types_in(request_to_wire(backward, *mixed)) == {"backward.gradient": bfloat16}
    loss = Loss(step=1, loss_sum=1.0, num_tokens=1, gradient=HIDDEN)
    assert _types_in(reply_to_wire(loss, *mixed)) == {"loss.gradient": bfloat16}
    last, gradient = LastHidden(step=1, hidden=HIDDEN), Gradient(step=1, gradient=HIDDEN)
    assert _types_in(reply_to_wire(last, *mixed)) == {"hidden": int8}
    assert _types_in(reply_to_wire(gradient, *mixed)) == {"gradient": bfloat16}


@pytest.mark.parametrize(
    ("kind", "sent"), [("unpadded", None), ("right", "lengths"), ("left", "mask")]
)
def test_a_mask_is_sent_as_little_as_it_needs(kind: str, sent: str | None) -> None:
    mask = batch_fields(kind)["attention_mask"]
    message = _wire(Forward(step=1, hidden=HIDDEN, attention_mask=mask)).forward
    assert [name for name in ("lengths", "mask") if message.HasField(name)] == (
        [sent] if sent else []
    )
    got = request_from_wire(StepRequest(step=1, forward=message)).attention_mask
    assert got is None if sent is None else torch.equal(got, mask)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_any_mask_with_a_token_in_every_row_comes_back(
    batch: int, seq: int, data: st.DataObject
) -> None:
    row = st.lists(st.integers(0, 1), min_size=seq, max_size=seq).filter(any)
    mask = torch.tensor(data.draw(st.lists(row, min_size=batch, max_size=batch)))
    hidden = torch.ones(batch, seq, 2)
    got = request_from_wire(_wire(Forward(step=1, hidden=hidden, attention_mask=mask)))
    assert torch.equal(
        torch.ones_like(mask) if got.attention_mask is None else got.attention_mask, mask
    )


def _changed(**parts: Payload) -> StepRequest:
    """A good forward request, with some of its payloads replaced."""
    message = _wire(Forward(step=1, hidden=HIDDEN, labels=LABELS))
    for name, payload in parts.items():
        getattr(message.forward, name).CopyFrom(payload)
    return message


def _backward(gradient: Tensor) -> StepRequest:
    message = StepRequest(step=1)
    message.backward.gradient.CopyFrom(encode(gradient))
    return message


ZEROS = torch.zeros(BATCH, SEQ, dtype=torch.int32)
BAD_REQUESTS: dict[str, tuple[StepRequest, str]] = {
    "empty": (StepRequest(step=1), "empty step request"),
    "two dimensions": (_changed(hidden=encode(HIDDEN[0])), r"hidden state of shape \[9, 4\]"),
    "four dimensions": (_changed(hidden=encode(HIDDEN[None])), "hidden state of shape"),
    "whole numbers": (_changed(hidden=encode(HIDDEN.long())), "torch.int64: floating-point"),
    "no rows": (_changed(hidden=encode(HIDDEN[:0])), r"hidden state of shape \[0, 9, 4\]"),
    "no hidden state": (_changed(hidden=Payload()), "unknown data type|hidden state"),
    "cut off": (_changed(hidden=Payload(data_type=1, shape=[3, 9, 4], data=b"1")), "needs 432"),
    "labels too short": (_changed(labels=encode(LABELS[:, 1:])), r"labels of shape \[3, 8\]"),
    "labels in parts": (_changed(labels=encode(LABELS.float())), "labels .* integers"),
    "lengths of each token": (_changed(lengths=encode(ZEROS + 1)), r"lengths of shape \[3, 9\]"),
    "lengths too large": (_changed(lengths=encode(ZEROS[:, 0] + 10)), r"in \[1, 9\], got"),
    "lengths of nothing": (_changed(lengths=encode(ZEROS[:, 0])), r"in \[1, 9\], got"),
    "mask of another shape": (_changed(mask=encode(ZEROS[:2])), r"mask of shape \[2, 9\]"),
    "mask of weights": (_changed(mask=encode(ZEROS + 2)), "zeros and ones only"),
    "negative mask": (_changed(mask=encode(ZEROS - 1)), "zeros and ones only"),
    "gradient of whole numbers": (_backward(HIDDEN.long()), "gradient .* floating-point"),
    "norm that is negative": (StepRequest(step=1, settle={"squared_norm": -1.0}), "zero or more"),
    "norm that is no number": (
        StepRequest(step=1, forward={"hidden": encode(HIDDEN), "squared_norm": math.nan}),
        "zero or more",
    ),
    "gradient of one row": (_backward(HIDDEN[0]), r"gradient of shape \[9, 4\]"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_request_that_holds_something_else_is_refused(case: str) -> None:
    message, reason = BAD_REQUESTS[case]
    with pytest.raises(CodecError, match=reason):
        request_from_wire(message)


def _reply(**content: Any) -> StepReply:
    return StepReply(step=1, **content)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (_reply(), "empty step reply"),
        (_reply(hidden=encode(HIDDEN[0])), "last hidden state of shape"),
        (_reply(gradient=encode(LABELS)), "gradient of shape"),
        (_reply(settled={}, squared_norm=math.inf), "zero or more"),
        (_reply(loss={"loss_sum": 1.0, "gradient": encode(LABELS)}), "gradient of shape"),
    ],
)
def test_a_reply_that_holds_something_else_is_refused(message: StepReply, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        reply_from_wire(message)
