"""From the settings of a run to what its plans are made from."""

from ..costs import ModelCosts, Workload
from ..planning import session_need_bytes
from ..settings import DTYPE_BYTES, PlanSettings, RunSettings
from ..types import WireType
from ..wire.codec import value_bytes


def workload_of(settings: RunSettings) -> Workload:
    """What one step of a client is, at most."""
    training, model = settings.training, settings.model
    hidden_type = settings.link.wire_type or WireType(model.dtype)
    return Workload(
        batch_size=training.batch_size,
        sequence_length=training.sequence_length,
        dtype_bytes=DTYPE_BYTES[model.dtype],
        wire_dtype_bytes=value_bytes(hidden_type),
        attention=model.attention or "sdpa",
    )


def granted(settings: PlanSettings, costs: ModelCosts) -> PlanSettings:
    """With what a session may take on the worker in bytes, where it is said as a rank."""
    if not settings.worker_session_rank:
        return settings
    granted = session_need_bytes(costs, rank=settings.worker_session_rank, settings=settings)
    return settings.replace(worker_session_bytes=granted)


def shared_by(settings: PlanSettings, num_able: int, num_sessions: int | None) -> PlanSettings:
    """For a round in which so many of those take part that are able to."""
    if not num_sessions or num_able <= 0:
        return settings
    return settings.replace(round_share=min(1.0, num_sessions / num_able))
