"""A plan that was made to be looked at: as tables, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from ..costs import ModelCosts, wire_bytes, worker_memory
from ..planning import StepTime, bottleneck, step_times
from ..planning.explain import aligned, explain
from ..settings import PlanSettings
from ..simulation import Device
from ..types import DeviceProfile, MemoryParts, Plan

PARTS = tuple(field.name for field in fields(MemoryParts))

_PLAN_COLUMNS = (
    "  budget: memory that it has; memory: predicted peak of it (1 MB is 10^6 bytes);",
    "  cut: blocks on the client, the worker runs the rest; ranks: lowest and highest of its",
    "  adapters on both sides, and their sum; its time: its own computing and its link;",
    "  worker's: the worker's computing for it; wire: what is sent and received",
)
_MEMORY_COLUMNS = (
    "  adapters: with gradients and optimizer state; frozen factors: what is not trained of the",
    "  global adapter; activations: kept for the backward pass; head: output layer and loss, where",
    "  the client has the labels; probe: scoring importance; in flight: what crosses the cut",
)
_TIME_COLUMNS = (
    "  compute, link: on the client's side; waits: for the others; worker for it: the worker's",
    "  computing for this client; longest: what takes most of its step",
)


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


def as_text(report: PlanReport) -> str:
    """Tables: the plan, memory by part, seconds by cause; then the worker and who is left out."""
    costs, work = report.costs, report.costs.workload
    sent = wire_bytes(costs, report.settings.labels)
    return "\n".join(
        [
            f"{report.model}: {costs.num_blocks} blocks, {len(costs.weights)} weights; whole, with "
            f"adapters of rank {report.settings.max_rank}: {_mb(report.whole_model_bytes)} MB",
            f"a step: {work.batch_size} x {work.sequence_length} tokens, "
            f"{sent.up_bytes / 1e6:.2f} MB up, {sent.down_bytes / 1e6:.2f} MB down",
            f"fleet {report.fleet}: {len(report.devices)} devices",
            "",
            explain(report.plan, report.profiles),
            *_PLAN_COLUMNS,
            "",
            "predicted memory, MB",
            *_memory_table(report),
            *_MEMORY_COLUMNS,
            "",
            "seconds of a step",
            *_time_table(report),
            *_TIME_COLUMNS,
            f"the step of all is held up by: {bottleneck(report.times).value}",
        ]
    )


def as_json(report: PlanReport) -> dict[str, Any]:
    """The same as values that JSON has."""
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
        "clients": [
            {
                "client": client,
                "device": report.devices[client].name,
                "budget_bytes": _finite(report.devices[client].profile.memory_bytes),
                "unavailable": report.devices[client].unavailable,
                "cut": part.cut,
                "checkpointing": part.checkpointing,
                "ranks": dict(part.ranks),
                "memory_bytes": part.memory.total_bytes,
                "memory": asdict(part.memory),
                "seconds": asdict(times[client]),
                "wire_bytes": part.wire_bytes,
                "bottleneck": times[client].bottleneck.value,
            }
            for client, part in sorted(plan.clients.items())
        ],
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


def _with_whole_bytes(value: Any, name: str = "") -> Any:
    """The same with every number of bytes whole: shares of a model are predicted in fractions."""
    if isinstance(value, dict):
        return {key: _with_whole_bytes(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_bytes(item) for item in value]
    return round(value) if isinstance(value, float) and name.endswith("_bytes") else value


def _memory_table(report: PlanReport) -> list[str]:
    titles = [name.removesuffix("_bytes").replace("_", " ") for name in PARTS]
    rows = [
        (str(client), *_cells(part.memory)) for client, part in sorted(report.plan.clients.items())
    ]
    rows.append(("worker", *_cells(report.worker_parts)))
    return aligned([("client", *titles, "total"), *rows])


def _cells(parts: MemoryParts) -> list[str]:
    return [_mb(value) for value in (*(getattr(parts, name) for name in PARTS), parts.total_bytes)]


def _time_table(report: PlanReport) -> list[str]:
    header = ("client", "compute", "link", "waits", "worker for it", "longest", "device")
    rows = [
        (
            str(client),
            f"{time.compute_seconds:.3g}",
            f"{time.link_seconds:.3g}",
            f"{time.waiting_seconds:.3g}",
            f"{time.worker_seconds:.3g}",
            time.bottleneck.value,
            report.devices[client].name or "-",
        )
        for client, time in sorted(report.times.items())
    ]
    load = sum(time.worker_seconds for time in report.times.values())
    return [*aligned([header, *rows]), f"the worker computes {load:.3g} s for all of them"]


def _mb(number: float) -> str:
    return f"{number / 1e6:.1f}"


def _finite(number: float) -> float | None:
    return number if number < float("inf") else None
