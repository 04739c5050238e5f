"""How large the messages of a step are: from its shape alone, and those that are there."""

from ..types import WireType
from .codec import SCALE_BYTES, value_bytes
from .messages import Backward, Forward, LastHidden, Reply, Request, Settle, Settled
from .next_tokens import Extend, NextTokens

INTEGER_BYTES = 4
# Labels, positions and a mask of a token; what a message has besides its tensors.
TOKEN_BYTES, FRAME_BYTES = 2 * INTEGER_BYTES + 1, 1024


def largest_message_bytes(num_tokens: int, hidden_size: int, *wire_types: WireType | None) -> int:
    """What no message of a step is larger than.

    Parameters
    ----------
    num_tokens
        Of the part of a batch that is sent at a time, padding included.
    hidden_size
        Numbers of a token's hidden state.
    wire_types
        What hidden states and gradients are on the wire; those that are None say nothing.
    """
    widest = max(
        value_bytes(each) * hidden_size + (SCALE_BYTES if each is WireType.INT8 else 0)
        for each in wire_types
        if each is not None
    )
    return num_tokens * (widest + TOKEN_BYTES) + FRAME_BYTES


def most_tokens(message_bytes: int, hidden_size: int, *wire_types: WireType | None) -> int:
    """With how many tokens no message of a step is larger than so; 0 where one is too many."""
    own = largest_message_bytes(1, hidden_size, *wire_types) - FRAME_BYTES
    return max(0, (message_bytes - FRAME_BYTES) // own)


def rows_and_positions(request: Request) -> tuple[int, int]:
    """How many rows of how many tokens a request brings."""
    if isinstance(request, Settle):
        return 0, 0
    tensor = request.gradient if isinstance(request, Backward) else request.hidden
    return tensor.shape[0], tensor.shape[1]


def tensor_bytes(message: Request | Reply) -> int:
    """What a message's hidden state, gradient or logits take before they are on the wire."""
    if isinstance(message, Settle | Settled):
        return 0
    if isinstance(message, NextTokens):
        return message.logits.nbytes
    if isinstance(message, Forward | Extend | LastHidden):
        return message.hidden.nbytes
    return 0 if message.gradient is None else message.gradient.nbytes
