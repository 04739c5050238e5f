"""What is said while a text is written: hidden states there, likely next tokens back."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import CodecError
from ..types import WireType
from .codec import CheckShape, decode, encode_into
from .fingerprint import fingerprint_of
from .payloads import hidden_like, integers, plain_mask
from .proto.split_pb2 import Extend as ExtendMessage
from .proto.split_pb2 import NextTokens as NextMessage
from .proto.split_pb2 import Payload


@dataclass(frozen=True, kw_only=True)
class Extend:
    """Hidden states of the tokens that follow those which a session keeps, in each of its rows.

    The first ones, with which a text ``begins``, may have a mask: zeros on the left of short rows.
    Later ones may say with ``parents`` which of the rows of before each row goes on with. Of the
    tokens that may follow the last one, the ``num_choices`` likeliest are wanted.
    """

    step: int
    hidden: Float[Tensor, "batch new hidden"]
    attention_mask: Int[Tensor, "batch new"] | None = None
    parents: Int[Tensor, " batch"] | None = None
    begins: bool = False
    num_choices: int = 1
    micro_batch: int = 0

    @cached_property
    def fingerprint(self) -> int:
        """The same for a request that comes again, and hardly for another."""
        values = self.begins, self.num_choices
        return fingerprint_of(values, (self.hidden, self.attention_mask, self.parents))


@dataclass(frozen=True, kw_only=True)
class NextTokens:
    """The likeliest tokens that follow each row, with their logits, the largest first.

    ``tokens`` is None where the whole vocabulary was asked for: then logits are in its order.
    ``log_sum`` is that of the exponentials of all logits, so that ``logits - log_sum`` are
    log-probabilities.
    """

    step: int
    logits: Float[Tensor, "batch choices"]
    tokens: Int[Tensor, "batch choices"] | None
    log_sum: Float[Tensor, " batch"]
    micro_batch: int = 0
    worker_seconds: float = field(default=0.0, compare=False)


def put_extend(message: ExtendMessage, request: Extend, wire_type: WireType) -> None:
    """Fill an empty message."""
    encode_into(message.hidden, request.hidden, wire_type)
    message.begins, message.num_choices = request.begins, request.num_choices
    if request.attention_mask is not None:
        encode_into(message.mask, request.attention_mask.to(torch.uint8))
    if request.parents is not None:
        encode_into(message.parents, request.parents.to(torch.int32))


def extend_from_wire(step: int, message: ExtendMessage, check_shape: CheckShape | None) -> Extend:
    """The request that a message says it is.

    Raises
    ------
    CodecError
        If one of its tensors is not as its place asks for.
    """
    hidden = hidden_like(message.hidden, "hidden state", check_shape)
    batch, new = hidden.shape[:2]
    mask = plain_mask(message.mask, (batch, new)) if message.HasField("mask") else None
    parents: Tensor | None = None
    if message.HasField("parents"):
        parents = integers(message.parents, (batch,), "parents").long()
    return Extend(
        step=step,
        hidden=hidden,
        attention_mask=mask,
        parents=parents,
        begins=message.begins,
        num_choices=message.num_choices,
    )


def put_next(message: NextMessage, reply: NextTokens) -> None:
    """Fill an empty message; logits are float32 whatever hidden states are."""
    encode_into(message.logits, reply.logits.float())
    encode_into(message.log_sum, reply.log_sum.float())
    if reply.tokens is not None:
        encode_into(message.tokens, reply.tokens.to(torch.int32))


def next_from_wire(
    step: int, message: NextMessage, seconds: float, check_shape: CheckShape | None
) -> NextTokens:
    """The reply that a message says it is; ``check_shape`` is asked about that of its logits.

    Raises
    ------
    CodecError
        If one of its tensors is not as its place asks for, or is not finite.
    """

    def check(shape: tuple[int, ...]) -> None:
        if len(shape) != 2 or 0 in shape:
            raise CodecError(f"logits of shape {list(shape)}: [batch, choices] is wanted")
        if check_shape is not None:
            check_shape(shape)

    logits = _finite(message.logits, check, "logits")

    def check_log_sum(shape: tuple[int, ...]) -> None:
        if shape != logits.shape[:1]:
            raise CodecError(f"log sums of shape {list(shape)}: one for each row is wanted")

    tokens: Tensor | None = None
    if message.HasField("tokens"):
        tokens = integers(message.tokens, tuple(logits.shape), "tokens").long()
    return NextTokens(
        step=step,
        logits=logits,
        tokens=tokens,
        log_sum=_finite(message.log_sum, check_log_sum, "log sums"),
        worker_seconds=seconds,
    )


def _finite(payload: Payload, check_shape: CheckShape, what: str) -> Tensor:
    tensor = decode(payload, check_shape)
    if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
        raise CodecError(f"{what} that are no finite floating-point numbers")
    return tensor
