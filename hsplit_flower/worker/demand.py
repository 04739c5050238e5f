"""What a session's request asks of a pass over the base."""

from ..wire.message_size import rows_and_positions
from ..wire.messages import Request
from ..wire.next_tokens import Extend
from .batched_pass import group_of
from .scheduler import Demand
from .session import Session
from .writing_pass import demand_group
from .writing_session import WritingSession


def demand_of(request: Request, session: Session, steady_length: int | None) -> Demand:
    """Its size, and with which others it may share a pass.

    Parameters
    ----------
    request, session
        A request, and whose it is.
    steady_length
        Up to which length of a row rotary frequencies are the same for all; None where they are.
    """
    if isinstance(request, Extend):
        kept = session.kept if isinstance(session, WritingSession) else None
        seen = 0 if kept is None or request.begins else kept.num_positions
        group = demand_group(request, seen, steady_length)
        return Demand(
            group=group,
            num_rows=request.hidden.shape[0],
            num_positions=seen + request.hidden.shape[1],
            is_brief=group is not None,
        )
    num_rows, num_positions = rows_and_positions(request)
    return Demand(
        group=group_of(request, session.spec, steady_length),
        num_rows=num_rows,
        num_positions=num_positions,
    )
