"""What a run was set to, in a few lines for the log."""

from logging import INFO

from flwr.common.logger import log

from ..devices.source import DeviceSource
from ..methods import Method
from ..reports.noise_text import noise_text
from ..settings import RunSettings
from ..splitting import Architecture


def log_summary(
    method: Method, settings: RunSettings, architecture: Architecture, devices: DeviceSource
) -> None:
    """Log what a reader of the log asks first."""
    lines = summary_lines(method, settings, architecture, devices)
    for line in lines[:-1]:
        log(INFO, "\t├──> %s", line)
    log(INFO, "\t└──> %s", lines[-1])


def summary_lines(
    method: Method, settings: RunSettings, architecture: Architecture, devices: DeviceSource
) -> list[str]:
    """A line for each thing that a reader of the log asks first.

    Of a fleet nothing is said where devices say themselves what they have, and nothing of noise
    where there is none or the method has no split worker.
    """
    noise = noise_text(settings.shown()) if method.is_split else ""
    sampling, limits = settings.sampling, settings.planning
    planning = f"cut from {limits.min_cut}, ranks to {limits.max_rank}"
    return [
        f"Method: {method.title} ({method.source})",
        f"Model: {settings.model.name}, {architecture.model_type} of {architecture.num_blocks} "
        f"blocks, {len(architecture.weights)} weights",
        f"Training: {settings.training}",
        *([f"Privacy: {noise}"] if noise else []),
        f"Planning: {planning}"
        + ("" if devices.takes_reports else f"; simulated devices: {devices.name}"),
        f"Sampling: train {sampling.fraction_train:g} of the nodes, at least "
        f"{sampling.least_training}; "
        + (
            f"evaluate {sampling.fraction_evaluate:g}, at least {sampling.least_evaluating}"
            if sampling.fraction_evaluate
            else "none evaluates"
        ),
    ]
