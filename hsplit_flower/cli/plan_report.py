"""A plan that was made to be looked at, and what JSON says of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ..costs import ModelCosts, wire_bytes, worker_memory
from ..planning import StepTime, bottleneck, step_times
from ..settings import PlanSettings
from ..simulation import Device
from ..types import DeviceProfile, MemoryParts, Plan


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """A plan, and what it was made from; client ``i`` is device ``i``."""

    model: str
    fleet: str
    costs: ModelCosts
    settings: PlanSettings
    devices: Sequence[Device]
    worker: DeviceProfile
    whole_model_bytes: float
    plan: Plan

    @property
    def profiles(self) -> dict[int, DeviceProfile]:
        return {client: device.profile for client, device in enumerate(self.devices)}

    @cached_property
    def times(self) -> dict[int, StepTime]:
        return step_times(self.plan, self.costs, self.profiles, labels=self.settings.labels)

    @cached_property
    def worker_parts(self) -> MemoryParts:
        """What the worker needs for its half and all sessions."""
        sessions = [(part.cut, part.ranks) for part in self.plan.clients.values()]
        return worker_memory(self.costs, sessions=sessions, settings=self.settings)


def as_json(report: PlanReport) -> dict[str, Any]:
    """A report as values that JSON has."""
    plan, times = report.plan, report.times
    sent = wire_bytes(report.costs, report.settings.labels)
    values = {
        "model": report.model,
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
            "load_seconds": sum(part.worker_seconds for part in plan.clients.values()),
        },
        "clients": [_client_values(report, client) for client in sorted(plan.clients)],
        "left_out": [
            {
                "client": client,
                "device": report.devices[client].name,
                "needed_bytes": shortfall.needed_bytes,
                "budget_bytes": shortfall.budget_bytes,
                "lacking_bytes": shortfall.lacking_bytes,
            }
            for client, shortfall in sorted(plan.left_out.items())
        ],
    }
    whole: dict[str, Any] = _with_whole_bytes(values)
    return whole


def _client_values(report: PlanReport, client: int) -> dict[str, Any]:
    part, device = report.plan.clients[client], report.devices[client]
    return {
        "client": client,
        "device": device.name,
        "budget_bytes": _finite(device.profile.memory_bytes),
        "unavailable": device.unavailable,
        "cut": part.cut,
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
