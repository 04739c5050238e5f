"""What client and worker say to each other, as tensors, and its form on the wire.

One training step is one exchange where the worker has the labels (hidden state and labels there,
loss and gradient back), and two where they stay on the client (hidden state there, last hidden
state back; its gradient there, the hidden state's gradient back).
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import CodecError
from ..types import WireType
from .codec import CheckShape, encode_into
from .fingerprint import fingerprint_of
from .next_tokens import Extend, NextTokens, extend_from_wire, next_from_wire, put_extend, put_next
from .payloads import hidden_like, integers, put_mask, take_mask
from .proto.split_pb2 import StepReply, StepRequest


@dataclass(frozen=True, kw_only=True)
class Forward:
    """A hidden state to be carried on, with labels where the worker computes the loss.

    It is micro-batch ``micro_batch`` of the ``num_micro_batches`` that make up a step; the
    optimizer steps after the last one's gradient. ``total_tokens`` counts the target tokens of the
    whole step, so that gradients add up to those of its mean loss; 0 is this batch's own count.
    With ``position_ids`` no mask means that documents in a row are kept apart where these begin
    anew; without them, that no row is padded. ``earlier_squared_norm`` is that of the client's own
    gradients in the step before, which the worker takes when it knows it, where they are clipped.
    """

    step: int
    hidden: Float[Tensor, "batch seq hidden"]
    labels: Int[Tensor, "batch seq"] | None = None
    attention_mask: Int[Tensor, "batch seq"] | None = None
    position_ids: Int[Tensor, "batch seq"] | None = None
    train: bool = True
    probe: bool = False
    micro_batch: int = 0
    num_micro_batches: int = 1
    total_tokens: int = 0
    earlier_squared_norm: float = 0.0

    @cached_property
    def fingerprint(self) -> int:
        """The same for a request that comes again, and hardly for another."""
        tensors = self.hidden, self.labels, self.attention_mask, self.position_ids
        values = self.train, self.probe, self.num_micro_batches, self.total_tokens
        return fingerprint_of((*values, self.earlier_squared_norm), tensors)


@dataclass(frozen=True, kw_only=True)
class Backward:
    """The gradient of the last hidden state, from a client that computed the loss."""

    step: int
    gradient: Float[Tensor, "batch seq hidden"]
    micro_batch: int = 0
    num_micro_batches: int = 1

    @cached_property
    def fingerprint(self) -> int:
        """The same for a request that comes again, and hardly for another."""
        return fingerprint_of(self.num_micro_batches, (self.gradient,))


@dataclass(frozen=True, kw_only=True)
class Settle:
    """The squared norm of the client's gradients in the last step, which is to be taken now."""

    step: int
    squared_norm: float
    micro_batch: ClassVar[int] = 0
    num_micro_batches: ClassVar[int] = 1

    @property
    def fingerprint(self) -> int:
        """The same for a request that comes again, and hardly for another."""
        return fingerprint_of(self.squared_norm, ())


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Summed loss over the target tokens, and the gradient of their mean; none in evaluation.

    ``squared_norm`` is, with the last micro-batch of a step whose gradients are clipped, that of
    the worker's gradients; so it is of a `Gradient`.
    """

    step: int
    loss_sum: float
    num_tokens: int
    gradient: Float[Tensor, "batch seq hidden"] | None = None
    squared_norm: float = 0.0
    micro_batch: int = 0
    worker_seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, kw_only=True)
class LastHidden:
    """The hidden state after the last block, before the final norm."""

    step: int
    hidden: Float[Tensor, "batch seq hidden"]
    micro_batch: int = 0
    worker_seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """The gradient of the hidden state that was sent."""

    step: int
    gradient: Float[Tensor, "batch seq hidden"]
    squared_norm: float = 0.0
    micro_batch: int = 0
    worker_seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The last step is taken."""

    step: int
    micro_batch: ClassVar[int] = 0
    squared_norm: ClassVar[float] = 0.0
    worker_seconds: float = field(default=0.0, compare=False)


Request = Forward | Backward | Settle | Extend
Reply = Loss | LastHidden | Gradient | Settled | NextTokens


def request_to_wire(
    request: Request, wire_type: WireType, gradient_type: WireType | None = None
) -> StepRequest:
    """A request in its form on the wire; gradients have the hidden states' type by default."""
    message = StepRequest(step=request.step, micro_batch=request.micro_batch)
    if isinstance(request, Extend):
        put_extend(message.extend, request, wire_type)
        return message
    message.num_micro_batches = request.num_micro_batches
    if isinstance(request, Backward):
        encode_into(message.backward.gradient, request.gradient, gradient_type or wire_type)
        return message
    if isinstance(request, Settle):
        message.settle.squared_norm = request.squared_norm
        return message
    forward = message.forward
    encode_into(forward.hidden, request.hidden, wire_type)
    forward.train, forward.probe = request.train, request.probe
    forward.total_tokens = request.total_tokens
    forward.squared_norm = request.earlier_squared_norm
    if request.labels is not None:
        encode_into(forward.labels, request.labels.to(torch.int32))
    if request.position_ids is not None:
        encode_into(forward.positions, request.position_ids.to(torch.int32))
    if request.attention_mask is not None:
        put_mask(forward, request.attention_mask, leaves_out=request.position_ids is None)
    return message


def request_from_wire(message: StepRequest, check_shape: CheckShape | None = None) -> Request:
    """The request that a message says it is.

    Parameters
    ----------
    message
        Somebody else's.
    check_shape
        Is asked about the shape of its hidden state, or gradient, before one is made.

    Raises
    ------
    CodecError
        If the message is empty, or one of its tensors has another type or shape than its place
        asks for.
    """
    kind = message.WhichOneof("content")
    if kind == "backward":
        gradient = hidden_like(message.backward.gradient, "gradient", check_shape)
        return Backward(
            step=message.step,
            gradient=gradient,
            micro_batch=message.micro_batch,
            num_micro_batches=message.num_micro_batches or 1,
        )
    if kind == "settle":
        norm = _zero_or_more(message.settle.squared_norm, "a squared norm")
        return Settle(step=message.step, squared_norm=norm)
    if kind == "extend":
        return extend_from_wire(message.step, message.extend, check_shape)
    if kind != "forward":
        raise CodecError("an empty step request: forward, backward, settle or extend is wanted")
    return _forward_from_wire(message, check_shape)


def _forward_from_wire(message: StepRequest, check_shape: CheckShape | None) -> Forward:
    forward = message.forward
    hidden = hidden_like(forward.hidden, "hidden state", check_shape)
    batch, seq = hidden.shape[:2]
    has_labels, has_positions = forward.HasField("labels"), forward.HasField("positions")
    wanted = batch, seq
    return Forward(
        step=message.step,
        hidden=hidden,
        labels=integers(forward.labels, wanted, "labels").long() if has_labels else None,
        attention_mask=take_mask(forward, batch, seq),
        position_ids=(
            integers(forward.positions, wanted, "positions").long() if has_positions else None
        ),
        train=forward.train,
        probe=forward.probe,
        micro_batch=message.micro_batch,
        num_micro_batches=message.num_micro_batches or 1,
        total_tokens=forward.total_tokens,
        earlier_squared_norm=_zero_or_more(forward.squared_norm, "a squared norm"),
    )


def reply_to_wire(
    reply: Reply, wire_type: WireType, gradient_type: WireType | None = None
) -> StepReply:
    """A reply in its form on the wire; gradients have the hidden states' type by default."""
    message = StepReply(
        step=reply.step, micro_batch=reply.micro_batch, worker_seconds=reply.worker_seconds
    )
    gradient_type = gradient_type or wire_type
    if isinstance(reply, LastHidden):
        encode_into(message.hidden, reply.hidden, wire_type)
    elif isinstance(reply, Gradient):
        encode_into(message.gradient, reply.gradient, gradient_type)
        message.squared_norm = reply.squared_norm
    elif isinstance(reply, Settled):
        message.settled.SetInParent()
    elif isinstance(reply, NextTokens):
        put_next(message.next, reply)
    else:
        message.squared_norm = reply.squared_norm
        message.loss.SetInParent()
        message.loss.loss_sum, message.loss.num_tokens = reply.loss_sum, reply.num_tokens
        if reply.gradient is not None:
            encode_into(message.loss.gradient, reply.gradient, gradient_type)
    return message


def reply_from_wire(message: StepReply, check_shape: CheckShape | None = None) -> Reply:
    """The reply that a message says it is; ``check_shape`` is as for `request_from_wire`.

    Raises
    ------
    CodecError
        If the message is empty, or its tensor is not as its place asks for.
    """
    kind = message.WhichOneof("content")
    step, micro_batch = message.step, message.micro_batch
    seconds = _zero_or_more(message.worker_seconds, "seconds of work")
    norm = _zero_or_more(message.squared_norm, "a squared norm")
    if kind == "hidden":
        hidden = hidden_like(message.hidden, "last hidden state", check_shape)
        return LastHidden(step=step, hidden=hidden, micro_batch=micro_batch, worker_seconds=seconds)
    if kind == "gradient":
        gradient = hidden_like(message.gradient, "gradient", check_shape)
        return Gradient(
            step=step,
            gradient=gradient,
            squared_norm=norm,
            micro_batch=micro_batch,
            worker_seconds=seconds,
        )
    if kind == "settled":
        return Settled(step=step, worker_seconds=seconds)
    if kind == "next":
        return next_from_wire(step, message.next, seconds, check_shape)
    if kind != "loss":
        raise CodecError("an empty step reply: loss, hidden, gradient, settled or next is wanted")
    loss_gradient: Tensor | None = None
    if message.loss.HasField("gradient"):
        loss_gradient = hidden_like(message.loss.gradient, "gradient", check_shape)
    return Loss(
        step=step,
        loss_sum=message.loss.loss_sum,
        num_tokens=message.loss.num_tokens,
        gradient=loss_gradient,
        squared_norm=norm,
        micro_batch=micro_batch,
        worker_seconds=seconds,
    )


def _zero_or_more(told: float, what: str) -> float:
    if not 0.0 <= told < math.inf:
        raise CodecError(f"{what} of {told}: zero or more is wanted")
    return told
