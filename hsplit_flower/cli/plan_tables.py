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
from .run_outlook import RoundOutlook

LINE_WIDTH = 80
# Two minutes are told in seconds, two hours in minutes.
LONGEST_IN_SMALL_UNITS = 120.0

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
    "the client has the labels; probe: scoring importance; smashed data: what crosses the cut"
)
_TIME_HEADER = ("client", "compute", "link", "waits", "worker\nfor it", "longest", "device")
_TIME_LEGEND = (
    "compute, link: on the client's side; waits: for the others; worker for it: the worker's "
    "computing for this client; longest: what takes most of its step"
)
_RUN_HEADER = (
    "client",
    "cut",
    "held by",
    "memory",
    "of budget",
    "sent\na round",
    "received\na round",
)
_RUN_LEGEND = (
    "cut, memory: in the last round, when the global adapter is as large as it gets; held by: what "
    "keeps it from a deeper cut; sent, received: hidden states to and from the worker, adapters to "
    "and from the server, without evaluation"
)
_GAIN_HEADER = ("change", "clients:\ncuts", "a round", "all send\nand receive", "worker\nneeds")
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
        f"{report.model}: {costs.num_blocks} blocks, {len(costs.weights)} weights in "
        f"{report.dtype}; whole, with "
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
    out.print()
    _print_run(out, report)
    out.print("\nwhat would help, each alone, in the last round")
    _print_gains(out, report)
    if report.worker_lacks:
        out.print()
        _say(out, f"planned as if the worker had room; it has not: {report.worker_lacks}")


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


def _print_run(out: Console, report: PlanReport) -> None:
    """What each client's last round is, and what all of them come to."""
    run = report.run
    out.print(f"{run.num_rounds} rounds of {run.num_steps} steps")
    rows = (
        (
            str(client),
            str(part.cut),
            part.binds or "-",
            size_text(part.memory.total_bytes),
            f"{part.memory.total_bytes / report.profiles[client].memory_bytes:.0%}",
            size_text(run.last.traffic[client].up_bytes),
            size_text(run.last.traffic[client].down_bytes),
        )
        for client, part in sorted(run.last.plan.clients.items())
    )
    out.print(numbers_table(_RUN_HEADER, rows))
    _explain(out, _RUN_LEGEND)
    for client, shortfall in sorted(run.last.plan.left_out.items()):
        if client not in run.first.plan.left_out:
            _say(out, f"by the last round, {left_out_text(str(client), shortfall)}")
    _say(
        out,
        f"the first round takes {time_text(run.first.seconds)} and the last "
        f"{time_text(run.last.seconds)}, the run {time_text(run.seconds)}; all clients send and "
        f"receive {size_text(run.last.total_bytes)} in the last round and "
        f"{size_text(run.total_bytes)} in the run; the worker needs at most "
        f"{size_text(report.last_worker_parts.total_bytes)}",
    )


def _print_gains(out: Console, report: PlanReport) -> None:
    """The last round as it is, and with each change, each beside it in per cent."""
    last, worker_bytes = report.run.last, report.last_worker_parts.total_bytes
    rows: list[tuple[str, ...]] = [("as it is", _told(last), *_figures(last, worker_bytes))]
    for gain in report.gains:
        if gain.run is None:
            rows.append((gain.words, "nobody", "-", "-", "-"))
            continue
        then = gain.run.last
        changes = (
            _beside(then.seconds, last.seconds),
            _beside(then.total_bytes, last.total_bytes),
            _beside(gain.worker_bytes, worker_bytes),
        )
        figures = _figures(then, gain.worker_bytes)
        rows.append((gain.words, _told(then), *map(" ".join, zip(figures, changes, strict=True))))
    out.print(numbers_table(_GAIN_HEADER, rows))
    _say(out, "all with as many examples; another batch takes another learning rate")


def _told(outlook: RoundOutlook) -> str:
    """How many take part, and at which cuts."""
    cuts = [part.cut for part in outlook.plan.clients.values()]
    return f"{len(cuts)}: {min(cuts)}-{max(cuts)}" if cuts else "nobody"


def _figures(outlook: RoundOutlook, worker_bytes: float) -> tuple[str, str, str]:
    return time_text(outlook.seconds), size_text(outlook.total_bytes), size_text(worker_bytes)


def _beside(value: float, now: float) -> str:
    """How much more or less than now."""
    return f"{value / now - 1.0:+.0%}" if now else ""


def time_text(seconds: float) -> str:
    """A duration to three digits: of milliseconds, seconds, minutes or hours."""
    if 0.0 < seconds < 0.1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < LONGEST_IN_SMALL_UNITS:
        return f"{seconds:.3g} s"
    minutes = seconds / 60
    return f"{minutes:.3g} min" if minutes < LONGEST_IN_SMALL_UNITS else f"{minutes / 60:.3g} h"


def _say(out: Console, text: str) -> None:
    out.print(fill(text, LINE_WIDTH, break_long_words=False, break_on_hyphens=False))


def _explain(out: Console, legend: str) -> None:
    """What columns mean, a line each."""
    for entry in legend.split("; "):
        out.print(fill(entry, LINE_WIDTH, initial_indent="  ", subsequent_indent="    "))
