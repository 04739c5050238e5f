"""How many tokens a worker's device has room for in one batch."""

from ..splitting import Architecture
from ..types import Span
from .scheduler import Limits

MEMORY_SHARE = 0.5
"""Of what base, global update and sessions leave; what the allocator loses has the rest."""
LOSS_BYTES = 12
"""Of a logit: itself, its softmax and its gradient, in float32."""
MOST_TOKENS = 2**16


def token_bytes(architecture: Architecture, span: Span, value_bytes: int) -> int:
    """What one token keeps for the backward pass, roughly.

    The input and output of every weight, twice over for what is between them, and its logits.
    """
    features = sum(w.in_features + w.out_features for w in architecture.weights_in(span))
    return 2 * value_bytes * features + LOSS_BYTES * architecture.vocabulary_size


def limits_for(
    architecture: Architecture,
    span: Span,
    *,
    value_bytes: int,
    memory_bytes: float,
    max_sessions: int = 0,
) -> Limits:
    """The limits of a worker's batches, from the memory that there is for them.

    Where there is too little for two sessions' steps, each runs by itself, as a plan reckons. A
    batch beyond some ten thousand tokens is no faster per token, so more is never asked for, nor
    are more than ``max_sessions`` if that is not 0.
    """
    room = MEMORY_SHARE * memory_bytes / token_bytes(architecture, span, value_bytes)
    return Limits(
        max_tokens=int(min(max(room, 1), MOST_TOKENS)), max_tasks=max_sessions or Limits.max_tasks
    )
