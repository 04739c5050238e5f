"""The plan that the options of ``hsplit plan`` ask for."""

import argparse
from dataclasses import replace

from transformers import PretrainedConfig

from ..costs import ModelCosts, Workload, trace_costs, whole_model_memory
from ..errors import ConfigError
from ..planning import plan, session_need_bytes
from ..settings import PlanSettings
from ..settings.device import GIGABYTE
from ..simulation import fleet_devices, fleet_size, worker_profile
from ..splitting import Checkpoint
from ..types import DeviceProfile, Labels, WireType
from ..wire.codec import value_bytes
from .plan_report import PlanReport


def make_report(options: argparse.Namespace) -> PlanReport:
    """The plan of a run's first round, and what it was made from.

    Raises
    ------
    ConfigError
        If an option does not fit the model, or the fleet cannot be read.
    UnsupportedModelError
        If there is no such model, or it cannot be split.
    InfeasibleBudgetError
        If no client, or not the worker, can hold its part.
    """
    num_clients = options.clients or fleet_size(options.fleet)
    own = DeviceProfile(memory_bytes=options.worker_memory_gb * GIGABYTE, flops_per_second=1.0)
    worker = worker_profile(options.fleet, own)
    costs = _costs(options)
    settings = _settings(options, costs)
    whole = whole_model_memory(costs, rank=settings.max_rank, settings=settings).total_bytes
    devices = fleet_devices(
        options.fleet, num_devices=num_clients, whole_model_bytes=whole, seed=options.seed
    )
    profiles = {client: device.profile for client, device in enumerate(devices)}
    return PlanReport(
        model=options.model,
        fleet=options.fleet,
        costs=costs,
        settings=settings,
        devices=devices,
        worker=worker,
        whole_model_bytes=whole,
        plan=plan(costs, profiles, worker, settings=settings),
    )


def _costs(options: argparse.Namespace) -> ModelCosts:
    workload = Workload(
        batch_size=options.batch,
        sequence_length=options.seq,
        dtype_bytes=value_bytes(WireType(options.dtype)),
        wire_dtype_bytes=value_bytes(WireType(options.wire_type or options.dtype)),
        attention=options.attention or "sdpa",
    )
    return trace_costs(_config(options), workload)


def _settings(options: argparse.Namespace, costs: ModelCosts) -> PlanSettings:
    if options.min_cut > costs.num_blocks:
        raise ConfigError(
            f"--min-cut is {options.min_cut}: the model has {costs.num_blocks} blocks, 1 to "
            f"{costs.num_blocks} is wanted"
        )
    settings = PlanSettings(
        labels=Labels(options.labels),
        min_cut=options.min_cut,
        max_rank=options.max_rank,
        rank_unit=options.rank_unit,
    )
    if not options.worker_session_rank:
        return settings
    granted = session_need_bytes(costs, rank=options.worker_session_rank, settings=settings)
    return replace(settings, worker_session_bytes=granted)


def _config(options: argparse.Namespace) -> PretrainedConfig:
    """The model's configuration, if it has as many positions as are asked for."""
    config = Checkpoint(source=options.model, revision=options.revision or None).config()
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and options.seq > positions:
        raise ConfigError(f"--seq is {options.seq}: the model has {positions} positions")
    return config
