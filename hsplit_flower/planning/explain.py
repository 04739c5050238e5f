"""A plan as a table for people."""

from collections.abc import Mapping, Sequence

from ..names import NUMBERED, ClientNames
from ..sizes import size_text
from ..types import ClientPlan, DeviceProfile, Plan, Shortfall

HEADER = ("client", "budget", "memory", "cut", "ranks", "sum", "its time", "worker's", "wire")
UNITS = ("", "MB", "MB", "blocks", "min-max", "", "s/step", "s/step", "MB/step")

# Marks a cut whose blocks are run once more in the backward pass.
RECOMPUTED = "*"


def explain(
    plan: Plan,
    profiles: Mapping[int, DeviceProfile] | None = None,
    names: ClientNames = NUMBERED,
) -> str:
    """Per client: budget, predicted memory, cut, ranks, seconds and bytes of one step.

    Clients that were left out follow, each with the memory that it lacks.
    """
    rows = [
        _row(names.of(client), part, (profiles or {}).get(client))
        for client, part in sorted(plan.clients.items())
    ]
    lines = aligned([HEADER, UNITS, *rows]) if rows else ["no client takes part"]
    if any(part.checkpointing for part in plan.clients.values()):
        lines.append(f"{RECOMPUTED} runs its blocks once more in the backward pass, to keep less")
    lines.append(f"one step of all clients: {plan.step_seconds:.3g} s")
    for client, shortfall in sorted(plan.left_out.items()):
        lines.append(left_out_text(names.of(client), shortfall))
    return "\n".join(lines)


def left_out_text(name: str, shortfall: Shortfall) -> str:
    """Why a client has no part in a plan."""
    return (
        f"client {name} is left out: its smallest part needs {size_text(shortfall.needed_bytes)}, "
        f"it has {budget_text(shortfall)} and lacks {size_text(shortfall.lacking_bytes)}"
    )


def budget_text(shortfall: Shortfall) -> str:
    """What a device has that is left out, and how much of it is planned for, if not all."""
    own = size_text(shortfall.budget_bytes)
    if shortfall.correction == 1.0:
        return own
    return f"{own} (planned for 1/{shortfall.correction:.2f} of it)"


def _row(name: str, part: ClientPlan, profile: DeviceProfile | None) -> tuple[str, ...]:
    ranks = list(part.ranks.values()) or [0]
    return (
        name,
        f"{profile.memory_bytes / 1e6:.1f}" if profile else "-",
        f"{part.memory.total_bytes / 1e6:.1f}",
        f"{part.cut}{RECOMPUTED if part.checkpointing else ''}",
        f"{min(ranks)}-{max(ranks)}",
        str(sum(ranks)),
        f"{part.client_seconds:.3g}",
        f"{part.worker_seconds:.3g}",
        f"{part.wire_bytes / 1e6:.2f}",
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, each column as wide as it must be."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
