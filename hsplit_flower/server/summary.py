"""What a run was set to, in a few lines for the log."""

from ..methods import Method
from ..settings import RunSettings
from ..splitting import Architecture


def summary_lines(
    method: Method, settings: RunSettings, architecture: Architecture, *, fleet: str
) -> list[str]:
    """A line for each thing that a reader of the log asks first."""
    sampling, limits = settings.sampling, settings.planning
    return [
        f"Method: {method.title} ({method.source})",
        f"Model: {settings.model.name}, {architecture.model_type} of {architecture.num_blocks} "
        f"blocks, {len(architecture.weights)} weights",
        f"Training: {settings.training}",
        f"Planning: cut from {limits.min_cut}, ranks to {limits.max_rank}, fleet {fleet}",
        f"Sampling: train {sampling.fraction_train:.2f} (at least {sampling.least_training}), "
        f"evaluate {sampling.fraction_evaluate:.2f} (at least {sampling.least_evaluating}), "
        f"{sampling.min_available_nodes} available",
        f"Keys: arrays '{sampling.arrayrecord_key}', config '{sampling.configrecord_key}'",
    ]
