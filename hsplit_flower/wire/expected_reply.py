"""Which reply a request may have: looked at before anything is made of what came."""

import math
from dataclasses import dataclass

from ..errors import CodecError
from .messages import (
    Backward,
    Gradient,
    LastHidden,
    Loss,
    Reply,
    Request,
    Settle,
    Settled,
    reply_from_wire,
)
from .next_tokens import Extend, NextTokens
from .parsing import parsed
from .proto.split_pb2 import StepReply

# Values of four bytes, and a scale for each row: the widest that a tensor may be on the wire.
VALUE_BYTES = 4
FRAME_BYTES = 4096
NO_TENSOR = 0, 0, 0

Kind = type[Loss] | type[LastHidden] | type[Gradient] | type[Settled] | type[NextTokens]


@dataclass(frozen=True, kw_only=True)
class ExpectedReply:
    """What the reply to one request must be.

    ``shape`` is that of the hidden state, or gradient, which was sent: what comes back has it too.
    Of next tokens it is rows and choices.
    """

    step: int
    micro_batch: int
    kind: Kind
    shape: tuple[int, ...]

    @classmethod
    def to(cls, request: Request) -> "ExpectedReply":
        """The reply that belongs to a request."""
        kind, shape = _kind_and_shape(request)
        return cls(step=request.step, micro_batch=request.micro_batch, kind=kind, shape=shape)

    @property
    def most_bytes(self) -> int:
        """More than the reply can take on the wire."""
        *rows, width = self.shape
        # A scale a row; of next tokens their numbers, too.
        num_values = 2 * width + 1 if self.kind is NextTokens else width + 1
        return math.prod(rows) * num_values * VALUE_BYTES + FRAME_BYTES

    def read(self, data: bytes) -> Reply:
        """The reply that bytes stand for.

        Raises
        ------
        CodecError
            If they are no reply, or not the one to this request.
        """
        if len(data) > self.most_bytes:
            raise CodecError(
                f"the worker's reply has {len(data)} bytes: at most {self.most_bytes} are wanted "
                f"for {list(self.shape)}"
            )
        reply = reply_from_wire(parsed(StepReply, data), self._check_shape)
        if (reply.step, reply.micro_batch) != (self.step, self.micro_batch):
            raise CodecError(
                f"the worker answered step {reply.step}, micro-batch {reply.micro_batch}: "
                f"step {self.step}, micro-batch {self.micro_batch}, is next"
            )
        if not isinstance(reply, self.kind):
            raise CodecError(
                f"the worker sent {type(reply).__name__}, out of turn: "
                f"{self.kind.__name__} is wanted"
            )
        num_sent = math.prod(self.shape[:2])
        if isinstance(reply, Loss) and reply.num_tokens > num_sent:
            raise CodecError(
                f"the worker counts {reply.num_tokens} target tokens: {num_sent} were sent"
            )
        return reply

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if shape != self.shape:
            raise CodecError(
                f"the worker's reply has the shape {list(shape)}: {list(self.shape)} is wanted, "
                "that of what was sent"
            )


def _kind_and_shape(request: Request) -> tuple[Kind, tuple[int, ...]]:
    if isinstance(request, Extend):
        return NextTokens, (request.hidden.shape[0], request.num_choices)
    if isinstance(request, Settle):
        return Settled, NO_TENSOR
    if isinstance(request, Backward):
        return Gradient, tuple(request.gradient.shape)
    kind: Kind = LastHidden if request.labels is None else Loss
    return kind, tuple(request.hidden.shape)
