"""Importance on the worker: scores of the weights above one session's cut."""

from contextlib import AbstractContextManager, nullcontext

from ..importance import probing
from ..splitting import Half
from .session import Session


def probing_above_cut(
    half: Half, session: Session, *, is_probe: bool
) -> AbstractContextManager[dict[str, float]]:
    """Score the weights above a session's cut in the pass inside, or do nothing."""
    if not is_probe:
        return nullcontext({})
    cut = session.spec.cut
    weights = half.architecture.weights_in(half.parts.span)
    return probing(half.model, [weight.name for weight in weights if weight.block >= cut])
