"""From the settings of a run to what its plans are made from."""

from collections.abc import Mapping

from ..costs import ModelCosts, Workload, fully_trained, without_cut
from ..methods import Method
from ..planning import session_need_bytes
from ..settings import DTYPE_BYTES, PlanSettings, RunSettings
from ..types import Labels
from ..wire.codec import value_bytes


def workload_of(settings: RunSettings) -> Workload:
    """What one step of a client is, at most."""
    training, model = settings.training, settings.model
    return Workload(
        batch_size=training.batch_size,
        sequence_length=training.sequence_length,
        dtype_bytes=DTYPE_BYTES[model.computes_in],
        quantised=model.quantised,
        wire_dtype_bytes=value_bytes(settings.hidden_type),
        attention=model.attention or "sdpa",
        has_dropout=training.lora_dropout > 0,
    )


def costs_for(method: Method, costs: ModelCosts) -> ModelCosts:
    """What of a model's costs a client of this method has."""
    if method.is_split:
        return costs
    return without_cut(costs) if method.has_adapters else fully_trained(costs)


def settings_for(method: Method, settings: RunSettings, costs: ModelCosts) -> PlanSettings:
    """What a plan is made from; where clients have the whole model, every cut is behind it."""
    made = method.plan_settings(settings.planning, settings.training).replace(
        worker_checkpointing=settings.worker.checkpointing
    )
    if method.is_split:
        return granted(made, costs)
    num_blocks = costs.num_blocks
    whole = made.replace(labels=Labels.CLIENT, min_cut=num_blocks, max_cut=num_blocks)
    return whole if method.has_adapters else whole.replace(target_modules=None)


def held_ranks(method: Method, ranks: Mapping[str, int], costs: ModelCosts) -> Mapping[str, int]:
    """Of which rank the global update is that clients hold beside their adapters.

    Parameters
    ----------
    method
        Of the run.
    ranks
        Of the whole global adapter.
    costs
        Of the model.
    """
    if method.is_split:
        return ranks
    if not method.has_adapters or method.truncates:
        # No more than what they train.
        return {}
    if not method.merges:
        return ranks
    # As of the rank from which on every update goes into its weight.
    merged = {
        weight.name: weight.in_features * weight.out_features // weight.parameters_per_rank + 1
        for weight in costs.weights
    }
    return {name: max(rank, merged[name]) for name, rank in ranks.items() if rank}


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
