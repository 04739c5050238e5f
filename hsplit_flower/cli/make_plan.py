"""The plan of a run's first round, from the run's settings."""

import math

from ..errors import ConfigError, SplitError
from ..methods import HSPLIT_LORA
from ..planning import plan
from ..server.round_planner import RoundPlanner
from ..settings import RunSettings
from ..settings.device import GIGABYTE
from ..simulation import fleet_devices, fleet_size, worker_profile
from ..splitting import Checkpoint, read_architecture
from ..types import DeviceProfile
from .plan_report import PlanReport


def make_report(
    settings: RunSettings, num_clients: int, worker_memory_gb: float | None
) -> PlanReport:
    """The plan, and what it was made from.

    Parameters
    ----------
    settings
        Of the run, with a fleet.
    num_clients
        How many there are; 0 is as many as the fleet has.
    worker_memory_gb
        What the split worker has, its half of the model included; None is no limit.

    Raises
    ------
    ConfigError
        If a setting does not fit the model, or the fleet cannot be read.
    UnsupportedModelError
        If there is no such model, or it cannot be split.
    InfeasibleBudgetError
        If no client, or not the worker, can hold its part.
    """
    model, fleet = settings.model, settings.simulation.fleet
    num_devices = num_clients or fleet_size(fleet)
    memory_bytes = math.inf if worker_memory_gb is None else worker_memory_gb * GIGABYTE
    worker = worker_profile(fleet, DeviceProfile(memory_bytes=memory_bytes, flops_per_second=1.0))
    planner = _planner(settings)
    devices = fleet_devices(
        fleet,
        num_devices=num_devices,
        whole_model_bytes=planner.whole_model_bytes,
        seed=settings.training.seed,
    )
    profiles = {client: device.profile for client, device in enumerate(devices)}
    return PlanReport(
        model=model.name,
        fleet=fleet,
        costs=planner.costs,
        settings=planner.settings,
        devices=devices,
        worker=worker,
        whole_model_bytes=planner.whole_model_bytes,
        plan=plan(planner.costs, profiles, worker, settings=planner.settings),
    )


def _planner(settings: RunSettings) -> RoundPlanner:
    """What plans the run's rounds."""
    model, planning = settings.model, settings.planning
    config = Checkpoint(source=model.name, revision=model.revision or None).config()
    try:
        return RoundPlanner(config, read_architecture(config), settings, HSPLIT_LORA)
    except SplitError as error:
        raise ConfigError(f"planning.min-cut is {planning.min_cut}: {error}") from error
