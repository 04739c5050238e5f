"""No reply is read that is not the one to its request."""

import math
from dataclasses import replace

import pytest
import torch

from hsplit_flower.errors import CodecError
from hsplit_flower.types import WireType
from hsplit_flower.wire.expected_reply import ExpectedReply
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
    reply_to_wire,
)
from hsplit_flower.wire.next_tokens import Extend, NextTokens

HIDDEN = torch.ones(2, 3, 4)
WITH_LABELS = Forward(step=5, hidden=HIDDEN, labels=torch.ones(2, 3).long(), micro_batch=1)
WITHOUT = replace(WITH_LABELS, labels=None)
BACK = Backward(step=5, gradient=HIDDEN, micro_batch=1)
LOSS = Loss(step=5, micro_batch=1, loss_sum=1.0, num_tokens=6, gradient=HIDDEN)
LAST = LastHidden(step=5, micro_batch=1, hidden=HIDDEN)
SETTLE, SETTLED = Settle(step=5, squared_norm=1.0), Settled(step=5)
GRADIENT = Gradient(step=5, micro_batch=1, gradient=HIDDEN)
EXTEND = Extend(step=5, hidden=HIDDEN, num_choices=3)
LOGITS = torch.ones(2, 3)
NEXT = NextTokens(step=5, logits=LOGITS, tokens=LOGITS.long(), log_sum=LOGITS[:, 0])


def _read(request: Request, reply: Reply, wire_type: WireType = WireType.FLOAT32) -> Reply:
    data = bytes(reply_to_wire(reply, wire_type).SerializeToString())
    return ExpectedReply.to(request).read(data)


@pytest.mark.parametrize("wire_type", WireType)
@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (WITH_LABELS, LOSS),
        (WITHOUT, LAST),
        (BACK, GRADIENT),
        (SETTLE, SETTLED),
        (EXTEND, NEXT),
    ],
)
def test_the_reply_to_a_request_is_read(
    request_: Request, reply: Reply, wire_type: WireType
) -> None:
    assert type(_read(request_, reply, wire_type)) is type(reply)


def test_an_evaluations_reply_has_no_gradient() -> None:
    assert _read(WITH_LABELS, replace(LOSS, gradient=None)).gradient is None


@pytest.mark.parametrize(
    ("request_", "reply", "said"),
    [
        (WITH_LABELS, replace(LOSS, step=4), r"answered step 4, .* step 5, micro-batch 1, is next"),
        (BACK, replace(GRADIENT, micro_batch=7), "micro-batch 7"),
        (WITH_LABELS, LAST, "sent LastHidden, out of turn: Loss is wanted"),
        (WITHOUT, LOSS, "sent Loss, out of turn"),
        (SETTLE, replace(GRADIENT, micro_batch=0, gradient=torch.ones(0)), "bytes|shape|gradient"),
        (SETTLE, Settled(step=4), "answered step 4"),
        (BACK, LAST, "sent LastHidden, out of turn: Gradient"),
        (WITHOUT, replace(LAST, hidden=torch.ones(3, 2, 4)), r"shape \[3, 2, 4\]"),
        (BACK, replace(GRADIENT, gradient=torch.ones(2, 3, 1)), r"\[2, 3, 4\] is wanted"),
        (WITH_LABELS, replace(LOSS, num_tokens=7), "counts 7 target tokens: 6 were sent"),
        (
            EXTEND,
            LastHidden(step=5, hidden=LOGITS[:, None, :1]),
            r"shape \[2, 1, 1\]: \[2, 3\] is wanted",
        ),
        (EXTEND, replace(LOSS, micro_batch=0), r"\[2, 3, 4\]: \[2, 3\] is wanted"),
        (EXTEND, replace(NEXT, logits=torch.ones(2, 4)), r"shape \[2, 4\]: \[2, 3\] is wanted"),
        (EXTEND, replace(NEXT, tokens=torch.ones(2, 2).long()), r"tokens of shape \[2, 2\]"),
        (EXTEND, replace(NEXT, log_sum=torch.ones(3)), "one for each row is wanted"),
        (EXTEND, replace(NEXT, logits=LOGITS / 0), "logits that are no finite"),
        (WITHOUT, replace(LAST, hidden=torch.ones(2, 3, 4000)), "96020 bytes: at most 4216"),
    ],
)
def test_another_reply_is_refused(request_: Request, reply: Reply, said: str) -> None:
    with pytest.raises(CodecError, match=said):
        _read(request_, reply)


def test_what_is_no_reply_is_refused() -> None:
    with pytest.raises(CodecError, match="no StepReply"):
        ExpectedReply.to(BACK).read(b"\xff\xff\xff")
    with pytest.raises(CodecError, match="empty step reply"):
        ExpectedReply.to(BACK).read(b"")


def test_a_loss_that_is_not_finite_is_left_to_the_round() -> None:
    assert math.isnan(_read(WITH_LABELS, replace(LOSS, loss_sum=math.nan)).loss_sum)
