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
    spec = session.spec
    above = [one for one in half.architecture.weights_in(half.parts.span) if one.block >= spec.cut]
    # Those that may be adapted, with whatever rank in this round.
    return probing(half.model, [one.name for one in above if one.name in spec.ranks])
