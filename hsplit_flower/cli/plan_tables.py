"""A plan as tables for people: who gets what, memory by part, seconds by cause."""

from collections.abc import Sequence
from dataclasses import fields
from textwrap import fill

from rich.console import Console

from ..costs import wire_bytes
from ..planning import bottleneck
from ..planning.explain import RECOMPUTED, left_out_text
from ..sizes import size_text
from ..types import ClientPlan, MemoryParts
from .console import console, numbers_table
from .plan_report import PlanReport

LINE_WIDTH = 80

_PLAN_HEADER = ("client", "budget", "memory", "cut", "ranks", "sum", "its time", "worker's", "wire")
_PLAN_LEGEND = (
    "budget: memory that it has; memory: predicted peak of it (1 MB is 10^6 bytes); cut: blocks on "
    "the client, the worker runs the rest; ranks: lowest and highest of its adapters on both "
    "sides, and their sum; its time: its own computing and its link, a step; worker's: the "
    "worker's computing for it; wire: what is sent and received in a step"
)
_MEMORY_LEGEND = (
    "adapters: with gradients and optimizer state; frozen factors: what is not trained of the "
    "global adapter; activations: kept for the backward pass; head: output layer and loss, where "
    "the client has the labels; probe: scoring importance; in flight: what crosses the cut"
)
_TIME_HEADER = ("client", "compute", "link", "waits", "worker\nfor it", "longest", "device")
_TIME_LEGEND = (
    "compute, link: on the client's side; waits: for the others; worker for it: the worker's "
    "computing for this client; longest: what takes most of its step"
)
_PARTS = {
    field.name: field.name.removesuffix("_bytes").replace("_", " ") for field in fields(MemoryParts)
}


def print_tables(report: PlanReport) -> None:
    """Print the plan, memory by part, seconds by cause, the worker, and who is left out."""
    out = console()
    costs, work = report.costs, report.costs.workload
    sent = wire_bytes(costs, report.settings.labels)
    _say(
        out,
        f"{report.model}: {costs.num_blocks} blocks, {len(costs.weights)} weights; whole, with "
        f"adapters of rank {report.settings.max_rank}: {size_text(report.whole_model_bytes)}",
    )
    _say(
        out,
        f"a step: {work.batch_size} x {work.sequence_length} tokens, {size_text(sent.up_bytes)} "
        f"up, {size_text(sent.down_bytes)} down",
    )
    _say(out, f"fleet {report.fleet}: {len(report.devices)} devices")
    out.print()
    _print_plan(out, report)
    out.print("\npredicted memory")
    _print_memory(out, report)
    out.print("\ntime of a step")
    _print_times(out, report)


def _print_plan(out: Console, report: PlanReport) -> None:
    """Who gets what, and what those lack who get nothing."""
    plan = report.plan
    out.print(
        numbers_table(
            _PLAN_HEADER,
            (
                _plan_row(client, part, report.profiles[client].memory_bytes)
                for client, part in sorted(plan.clients.items())
            ),
        )
    )
    if any(part.checkpointing for part in plan.clients.values()):
        _say(out, f"{RECOMPUTED} runs its blocks once more in the backward pass, to keep less")
    _explain(out, _PLAN_LEGEND)
    _say(out, f"one step of all clients: {time_text(plan.step_seconds)}")
    for client, shortfall in sorted(plan.left_out.items()):
        _say(out, left_out_text(str(client), shortfall))


def _plan_row(client: int, part: ClientPlan, budget_bytes: float) -> Sequence[str]:
    ranks = list(part.ranks.values()) or [0]
    return (
        str(client),
        size_text(budget_bytes),
        size_text(part.memory.total_bytes),
        f"{part.cut}{RECOMPUTED if part.checkpointing else ''}",
        f"{min(ranks)}-{max(ranks)}",
        str(sum(ranks)),
        time_text(part.client_seconds),
        time_text(part.worker_seconds),
        size_text(part.wire_bytes),
    )


def _print_memory(out: Console, report: PlanReport) -> None:
    """What each client and the worker need; a part that nobody needs is only named."""
    needs = {str(client): part.memory for client, part in sorted(report.plan.clients.items())}
    needs["worker"] = report.worker_parts
    used = [name for name in _PARTS if any(getattr(parts, name) for parts in needs.values())]
    rows = (
        (who, *(size_text(getattr(parts, name)) for name in used), size_text(parts.total_bytes))
        for who, parts in needs.items()
    )
    titles = [_PARTS[name].replace(" ", "\n") for name in used]
    out.print(numbers_table(("client", *titles, "total"), rows))
    if unused := [title for name, title in _PARTS.items() if name not in used]:
        _say(out, f"nobody needs any for: {', '.join(unused)}")
    _explain(out, _MEMORY_LEGEND)


def _print_times(out: Console, report: PlanReport) -> None:
    """What each client's step is made of, and what holds up all."""
    rows = (
        (
            str(client),
            time_text(time.compute_seconds),
            time_text(time.link_seconds),
            time_text(time.waiting_seconds),
            time_text(time.worker_seconds),
            time.bottleneck.value,
            report.devices[client].name or "-",
        )
        for client, time in sorted(report.times.items())
    )
    out.print(numbers_table(_TIME_HEADER, rows))
    load_seconds = sum(time.worker_seconds for time in report.times.values())
    _say(out, f"the worker computes {time_text(load_seconds)} for all of them")
    _explain(out, _TIME_LEGEND)
    _say(out, f"the step of all is held up by: {bottleneck(report.times).value}")


def time_text(seconds: float) -> str:
    """A duration to three digits, in seconds, or in milliseconds where that is a fraction."""
    return f"{seconds * 1e3:.3g} ms" if 0.0 < seconds < 0.1 else f"{seconds:.3g} s"


def _say(out: Console, text: str) -> None:
    out.print(fill(text, LINE_WIDTH, break_long_words=False, break_on_hyphens=False))


def _explain(out: Console, legend: str) -> None:
    """What columns mean, a line each."""
    for entry in legend.split("; "):
        out.print(fill(entry, LINE_WIDTH, initial_indent="  ", subsequent_indent="    "))
