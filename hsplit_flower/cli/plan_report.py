"""A plan that was made to be looked at, and what JSON says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ..costs import ModelCosts, wire_bytes, worker_memory
from ..planning import StepTime, bottleneck, step_times
from ..settings import PlanSettings
from ..simulation import Device
from ..types import ClientPlan, DeviceProfile, MemoryParts, Plan, Shortfall
from .plan_gains import Gain
from .run_outlook import RoundOutlook, RunOutlook


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """A run's plans, and what they were made from; client ``i`` is device ``i``.

    Attributes
    ----------
    model, dtype, fleet
        What is planned for.
    costs, settings
        Of the model, and of its plans.
    devices, worker, whole_model_bytes
        The fleet, the worker, and what the whole model would take.
    run
        Its first round and its last.
    worker_lacks
        That the worker is short, in words; the plans are made as if it were not.
    gains
        What other settings would bring.
    """

    model: str
    dtype: str
    fleet: str
    costs: ModelCosts
    settings: PlanSettings
    devices: Sequence[Device]
    worker: DeviceProfile
    whole_model_bytes: float
    run: RunOutlook
    worker_lacks: str
    gains: Sequence[Gain]

    @property
    def plan(self) -> Plan:
        """Of the first round."""
        return self.run.first.plan

    @property
    def profiles(self) -> dict[int, DeviceProfile]:
        return profiles_of(self.devices)

    @cached_property
    def times(self) -> dict[int, StepTime]:
        return step_times(self.plan, self.costs, self.profiles, labels=self.settings.labels)

    @cached_property
    def worker_parts(self) -> MemoryParts:
        """What the worker needs for its half and all sessions, in the first round."""
        return worker_parts(self.run.first, self.costs, self.settings)

    @cached_property
    def last_worker_parts(self) -> MemoryParts:
        """The same in the last round."""
        return worker_parts(self.run.last, self.costs, self.settings)


def profiles_of(devices: Sequence[Device]) -> dict[int, DeviceProfile]:
    """By client."""
    return {client: device.profile for client, device in enumerate(devices)}


def worker_parts(outlook: RoundOutlook, costs: ModelCosts, settings: PlanSettings) -> MemoryParts:
    """What the worker needs for its half, and for the sessions of a round."""
    return worker_memory(
        costs,
        sessions=[(part.cut, part.ranks) for part in outlook.plan.clients.values()],
        settings=settings,
        update_ranks=outlook.update_ranks,
    )


def as_json(report: PlanReport) -> dict[str, Any]:
    """A report as values that JSON has."""
    plan, times = report.plan, report.times
    sent = wire_bytes(report.costs, report.settings.labels)
    values = {
        "model": report.model,
        "dtype": report.dtype,
        "fleet": report.fleet,
        "workload": asdict(report.costs.workload),
        "labels": report.settings.labels.value,
        "whole_model_bytes": report.whole_model_bytes,
        "wire_up_bytes": sent.up_bytes,
        "wire_down_bytes": sent.down_bytes,
        "step_seconds": plan.step_seconds,
        "bottleneck": bottleneck(times).value,
        "worker": {
            # JSON has no infinity.
            "memory_bytes": _finite(report.worker.memory_bytes),
            "flops_per_second": report.worker.flops_per_second,
            "needed_bytes": report.worker_parts.total_bytes,
            "memory": asdict(report.worker_parts),
            "lacks": report.worker_lacks,
            "load_seconds": sum(part.worker_seconds for part in plan.clients.values()),
        },
        "clients": [_client_values(report, client) for client in sorted(plan.clients)],
        "left_out": _left_out_values(report, plan.left_out),
        "run": {
            "num_rounds": report.run.num_rounds,
            "num_steps": report.run.num_steps,
            "seconds": report.run.seconds,
            "total_bytes": report.run.total_bytes,
            "first_round": _round_values(report, report.run.first, report.worker_parts),
            "last_round": _round_values(report, report.run.last, report.last_worker_parts),
        },
        "gains": [_gain_values(gain) for gain in report.gains],
    }
    whole: dict[str, Any] = _with_whole_bytes(values)
    return whole


def _left_out_values(report: PlanReport, left_out: Mapping[int, Shortfall]) -> list[dict[str, Any]]:
    return [
        {
            "client": client,
            "device": report.devices[client].name,
            "needed_bytes": shortfall.needed_bytes,
            "budget_bytes": shortfall.budget_bytes,
            "lacking_bytes": shortfall.lacking_bytes,
        }
        for client, shortfall in sorted(left_out.items())
    ]


def _round_values(report: PlanReport, outlook: RoundOutlook, worker: MemoryParts) -> dict[str, Any]:
    return {
        "seconds": outlook.seconds,
        "total_bytes": outlook.total_bytes,
        "worker_needed_bytes": worker.total_bytes,
        "clients": [
            {
                "client": client,
                "cut": part.cut,
                "memory_bytes": part.memory.total_bytes,
                **asdict(outlook.traffic[client]),
            }
            for client, part in sorted(outlook.plan.clients.items())
        ],
        "left_out": _left_out_values(report, outlook.plan.left_out),
    }


def _gain_values(gain: Gain) -> dict[str, Any]:
    if gain.run is None:
        return {"change": gain.words, "num_clients": 0}
    return {
        "change": gain.words,
        "num_clients": len(gain.run.last.plan.clients),
        "round_seconds": gain.run.last.seconds,
        "round_total_bytes": gain.run.last.total_bytes,
        "worker_needed_bytes": gain.worker_bytes,
    }


def _client_values(report: PlanReport, client: int) -> dict[str, Any]:
    part: ClientPlan = report.plan.clients[client]
    device = report.devices[client]
    return {
        "client": client,
        "device": device.name,
        "budget_bytes": _finite(device.profile.memory_bytes),
        "unavailable": device.unavailable,
        "cut": part.cut,
        "binds": part.binds,
        "why": part.why,
        "checkpointing": part.checkpointing,
        "ranks": dict(part.ranks),
        "memory_bytes": part.memory.total_bytes,
        "memory": asdict(part.memory),
        "seconds": asdict(report.times[client]),
        "wire_bytes": part.wire_bytes,
        "bottleneck": report.times[client].bottleneck.value,
    }


def _with_whole_bytes(value: Any, name: str = "") -> Any:
    """The same with every number of bytes whole: shares of a model are predicted in fractions."""
    if isinstance(value, dict):
        return {key: _with_whole_bytes(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_bytes(item) for item in value]
    return round(value) if isinstance(value, float) and name.endswith("_bytes") else value


def _finite(number: float) -> float | None:
    return number if number < float("inf") else None
