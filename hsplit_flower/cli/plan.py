"""``hsplit plan``: who would get which cut and ranks, without training anything."""

import argparse
import json
import math
from dataclasses import replace
from typing import Any

from transformers import PretrainedConfig

from ..devices import fleet_devices, fleet_size, worker_profile
from ..devices.presets import PRESETS
from ..errors import ConfigError
from ..planning import (
    PlanSettings,
    Workload,
    plan,
    session_need_bytes,
    trace_costs,
    whole_model_memory,
)
from ..splitting import Checkpoint
from ..types import DeviceProfile, Labels
from .plan_report import PlanReport, as_json, as_text

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    defaults = PlanSettings()
    parser = commands.add_parser(
        "plan",
        help="say who would get which cut and ranks",
        description="Plan a step of a fleet: cuts, ranks, memory, seconds and bytes of every "
        "client, what holds the step up, and what a client lacks that cannot take part. Of the "
        "model only config.json is read. Exit status 1 if nobody fits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="llama-tiny, a folder, or a hub id")
    parser.add_argument("--revision", default="", help="of a hub model")
    parser.add_argument(
        "--fleet",
        default="heterogeneous",
        help=f"{', '.join(PRESETS)}, a .toml file, or a list such as 4GB,8GB,0.5",
    )
    parser.add_argument("--clients", type=int, default=0, help="0 for as many as the fleet has")
    parser.add_argument("--seed", type=int, default=0, help="of what chance decides in the fleet")
    parser.add_argument("--batch", type=int, default=8, help="examples in a step")
    parser.add_argument("--seq", type=int, default=256, help="tokens of the longest example")
    parser.add_argument("--dtype", default="bfloat16", choices=tuple(DTYPES), help="of the base")
    parser.add_argument(
        "--wire-type", default="bfloat16", choices=tuple(DTYPES), help="of what crosses the cut"
    )
    parser.add_argument("--attention", default="sdpa", help="attention implementation")
    parser.add_argument(
        "--labels",
        default=defaults.labels.value,
        choices=[labels.value for labels in Labels],
        help="who computes the loss",
    )
    parser.add_argument("--max-rank", type=int, default=defaults.max_rank)
    parser.add_argument("--rank-unit", type=int, default=defaults.rank_unit)
    parser.add_argument("--min-cut", type=int, default=defaults.min_cut)
    parser.add_argument(
        "--worker-session-rank",
        type=int,
        default=0,
        help="what a session may take on the worker, as a rank of all weights; 0 shares its memory",
    )
    parser.add_argument(
        "--worker-memory-gb",
        type=float,
        default=math.inf,
        help="of the split worker; without a limit it is told how much it needs",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the plan; its own errors say why nobody fits."""
    report = make_report(options)
    print(json.dumps(as_json(report), indent=2) if options.json else as_text(report))
    return 0


def make_report(options: argparse.Namespace) -> PlanReport:
    """The plan that the options ask for.

    Raises
    ------
    ConfigError
        If an option is out of range, or the fleet cannot be read.
    UnsupportedModelError
        If there is no such model, or it cannot be split.
    InfeasibleBudgetError
        If no client, or not the worker, can hold its part.
    """
    num_clients = options.clients or fleet_size(options.fleet)
    own = DeviceProfile(memory_bytes=_worker_bytes(options), flops_per_second=1.0)
    worker = worker_profile(options.fleet, own)
    settings = PlanSettings(
        labels=Labels(options.labels),
        min_cut=options.min_cut,
        max_rank=options.max_rank,
        rank_unit=options.rank_unit,
    )
    workload = Workload(
        batch_size=options.batch,
        sequence_length=options.seq,
        dtype_bytes=DTYPES[options.dtype],
        wire_dtype_bytes=DTYPES[options.wire_type],
        attention=options.attention,
    )
    costs = trace_costs(_config(options), workload)
    if options.worker_session_rank:
        granted = session_need_bytes(costs, rank=options.worker_session_rank, settings=settings)
        settings = replace(settings, worker_session_bytes=granted)
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


def _config(options: argparse.Namespace) -> PretrainedConfig:
    """The model's configuration, if it has as many positions as are asked for."""
    config = Checkpoint(source=options.model, revision=options.revision or None).config()
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and options.seq > positions:
        raise ConfigError(f"--seq is {options.seq}: the model has {positions} positions")
    return config


def _worker_bytes(options: argparse.Namespace) -> float:
    gigabytes: float = options.worker_memory_gb
    if math.isnan(gigabytes) or gigabytes <= 0:
        raise ConfigError(f"--worker-memory-gb is {gigabytes}, a positive number is wanted")
    return gigabytes * 1e9
